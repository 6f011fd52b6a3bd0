// The glue between a notebook's widget model and the stepper: its face in, wishes out.

export default {
  render({ model, el }) {
    let hide = null;
    const giveUp = whenShown(el, () => {
      const stepper = makeStepper(el, { send: (message) => model.send(message) });
      const show = () => stepper.draw(JSON.parse(model.get("face")));
      model.on("change:face", show);
      show();
      hide = () => {
        model.off("change:face", show);
        stepper.destroy();
      };
    });
    return () => {
      giveUp();
      hide?.();
    };
  },
};
