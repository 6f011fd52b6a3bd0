// All pictures of one run, one below the other, with the same face for a live run and for a recording.
// It draws nothing itself: it hands views to the drawing modules, and moves through a recording without a round trip.

const DRAWINGS = {
  counters: { title: "", make: makeCounters },
  slots: { title: "Slots: one row of the KV cache for each request", make: makeSlotMap },
  timeline: { title: "Steps and requests", make: makePhaseTimeline },
  tree: { title: "Radix tree: what the slots hold", make: makeRadixTree },
};

// host: an empty element. parts: names from DRAWINGS. onFocus(slot or null): whose token ids the page would like.
// onAsk("recording" or "live"): absent where there is nobody to ask.
function makeDashboard(host, { parts = Object.keys(DRAWINGS), onFocus = () => {}, onAsk = null } = {}) {
  let live = null; // the last view that came from the engine
  let shown = null; // the view on the screen
  let player = null;
  let cursor = 0;
  let paused = false;
  let said = ""; // the caller's own words

  host.classList.add("astrai", "dashboard");
  host.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys would act on the cell below the picture
  const note = h("span", { class: "soft note" });
  const bar = makePlayerBar({ go: show, onPause: togglePause, onAsk });
  const body = h("div", { class: "drawings" });
  host.replaceChildren(h("div", { class: "bar" }, ...bar.elements, note), body);
  const drawings = parts.map((name) => {
    const { title, make } = DRAWINGS[name];
    const place = h("div", {});
    body.append(h("section", { class: `part ${name}`, "aria-label": title || name }, title ? h("h4", {}, title) : "", place));
    return make(place, { onFocus, onStep: (step) => player && show(frameOfStep(step)) });
  });

  function put(view) {
    shown = view;
    host.dataset.step = view.state.step;
    for (const drawing of drawings) drawing.draw(view);
  }

  function draw(view) {
    const first = live === null;
    live = view;
    if (!player && !paused) put({ ...view, animate: !first });
  }

  function togglePause() {
    paused = !paused;
    bar.live({ paused });
    say();
    if (!paused && live) put({ ...live, animate: false });
  }

  // What is not the present is not called live.
  function say(words = said) {
    said = words;
    const where = player ? "rewound" : paused ? "paused" : null;
    note.textContent = words === "live" && where ? `${where}: the engine goes on` : words;
  }

  // Shows one frame of the recording; only a single step forward is animated.
  function show(index, { animate = index === cursor + 1 } = {}) {
    cursor = Math.max(0, Math.min(player.count - 1, index));
    const { timeline, vocab } = player.recording;
    const after = player.label(cursor)[1]; // the phase that ended, where frames are made by phase
    put({ state: player.frame(cursor), timeline, vocab, after, animate });
    bar.recorded({ cursor, count: player.count, label: player.label(cursor) });
  }

  function frameOfStep(step) {
    const { labels } = player.recording;
    let found = 0;
    while (found + 1 < labels.length && labels[found][0] < step) found += 1;
    return found;
  }

  function play(recording) {
    bar.stop();
    player = recording ? { ...makePlayer(recording), recording } : null;
    say();
    if (player) show(player.count - 1, { animate: false });
    else {
      bar.live({ paused });
      if (live) put({ ...live, animate: false });
    }
  }

  host.addEventListener("keydown", (event) => {
    const wanted = event.target.closest("button, select, input, [role=tree], [role=grid], [role=application], [tabindex]");
    if (player && (wanted === null || wanted === host || host.querySelector(".bar").contains(wanted))) {
      if (!bar.key(event, cursor, player.count)) return;
      event.preventDefault();
      event.stopPropagation();
    }
  });
  const stopTheme = onTheme(host, () => shown && put({ ...shown, animate: false }));
  bar.live({ paused });

  return {
    draw,
    play,
    show,
    say,
    destroy() {
      bar.stop();
      stopTheme();
      for (const drawing of drawings) drawing.destroy();
      host.replaceChildren();
    },
  };
}

// The buttons: pause and rewind for a live run; back, forward, play, speed and a slider for a recording.
function makePlayerBar({ go, onPause, onAsk }) {
  const button = (label, text, act) => h("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  const pause = button("Pause the picture; the engine goes on", "Pause", onPause);
  const rewind = onAsk && button("Rewind this run", "Rewind this run", () => onAsk("recording"));
  const back = onAsk && button("Back to the live engine", "Back to live", () => onAsk("live"));
  const play = button("Play (space)", "Play", () => (timer ? stop() : start()));
  const moves = [
    button("To the beginning (Home)", "⇤", () => move(0)),
    button("One step back (left arrow)", "←", () => move(at.cursor - 1)),
    play,
    button("One step forward (right arrow)", "→", () => move(at.cursor + 1)),
    button("To the end (End)", "⇥", () => move(at.count - 1)),
  ];
  const slider = h("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Frame", oninput: () => move(+slider.value) });
  const speeds = [1, 2, 5, 10, 30].map((n) => h("option", { value: n, selected: n === 5 }, `${n} a second`));
  const speed = h("select", { "aria-label": "Speed, in frames a second", onchange: () => timer && start() }, ...speeds);
  const label = h("output", { class: "label" });
  const liveControls = h("span", { class: "controls" }, pause, rewind);
  const playControls = h("span", { class: "controls" }, ...moves, slider, speed, label, back);
  let at = { cursor: 0, count: 1 };
  let timer = null;

  function move(index) {
    stop();
    go(index);
  }

  function start() {
    stop();
    if (at.cursor >= at.count - 1) go(0);
    timer = setInterval(() => (at.cursor < at.count - 1 ? go(at.cursor + 1) : stop()), 1000 / speed.value);
    play.textContent = "Stop";
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  // What had the focus goes out of sight: the keyboard stays at the bar.
  function swap(from, to, heir) {
    const hadFocus = from.contains(document.activeElement);
    from.hidden = true;
    to.hidden = false;
    if (hadFocus) heir?.focus();
  }

  return {
    elements: [liveControls, playControls],
    stop,
    live({ paused }) {
      swap(playControls, liveControls, rewind);
      pause.textContent = paused ? "Go on" : "Pause";
      pause.setAttribute("aria-pressed", paused);
    },
    recorded({ cursor, count, label: [step, phase] }) {
      swap(liveControls, playControls, slider);
      at = { cursor, count };
      slider.max = count - 1;
      slider.value = cursor;
      const where = step ? `step ${comma(step)}${phase ? `, after ${phase}` : ""}` : "before the first step";
      label.textContent = where;
      slider.setAttribute("aria-valuetext", where);
      moves[0].disabled = moves[1].disabled = cursor === 0;
      moves[3].disabled = moves[4].disabled = cursor === count - 1;
    },
    // Whether a key was one of ours; it then has acted.
    key(event, cursor, count) {
      if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "SELECT") return false;
      const act = {
        ArrowLeft: () => move(cursor - 1),
        ArrowRight: () => move(cursor + 1),
        Home: () => move(0),
        End: () => move(count - 1),
        " ": event.target.tagName === "BUTTON" ? null : () => (timer ? stop() : start()),
      }[event.key];
      act?.();
      return Boolean(act);
    },
  };
}
