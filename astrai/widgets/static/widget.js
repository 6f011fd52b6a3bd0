// The glue between a notebook's widget model and the dashboard: traits in, wishes out.

export default {
  render({ model, el }) {
    let hide = null;
    const giveUp = whenShown(el, () => (hide = showDashboard(model, el)));
    return () => {
      giveUp();
      hide?.();
    };
  },
};

function showDashboard(model, el) {
  const ask = (name) => (value) => {
    model.set(name, value);
    model.save_changes();
  };
  const wishFocus = ask("focus");
  const dashboard = makeDashboard(el, {
    parts: model.get("parts"),
    onFocus: (slot) => model.get("recording") || wishFocus(slot ?? -1),
    onAsk: model.get("can_rewind") ? ask("asked") : null,
  });
  const on = (name, act) => {
    const listener = () => act(model.get(name));
    model.on(`change:${name}`, listener);
    listener();
    return () => model.off(`change:${name}`, listener);
  };
  const stops = [
    on("view", (text) => text && dashboard.draw(JSON.parse(text))),
    on("recording", (text) => dashboard.play(text ? JSON.parse(text) : null)),
    on("note", (text) => dashboard.say(text)),
  ];
  return () => {
    for (const stop of stops) stop();
    dashboard.destroy();
  };
}
