// The buttons of the stepper: back and forth among the frames, and on by a step or a phase, by hand or by itself.
//
// makeStepperBar(send) -> {elements, draw(face), key(event) -> bool, stop()}; send(message) gives the message's id
//
// It asks for one thing at a time: while it plays, or is scrubbed, the next wish waits for the answer to the last.

const makeStepperBar = (send) => {
  const button = (label, text, act) => h("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  const goto = (frame) => {
    stop();
    send({ do: "goto", frame });
  };
  const act = (what) => {
    stop();
    send({ do: what });
  };
  let face = null;
  let awaited = null; // the message whose answer is to come
  let scrubbed = null; // the frame that was scrubbed to and is yet to be shown
  let playing = null; // when the step that is under way was asked for, and the timer for the next one

  const moves = {
    home: button("To the oldest frame (Home)", "⇤", () => goto(face.frames[0])),
    back: button("One frame back (left arrow)", "←", () => goto(face.frame - 1)),
    forward: button("One frame forward (right arrow)", "→", () => goto(face.frame + 1)),
    end: button("To the newest frame (End)", "⇥", () => goto(face.frames[1])),
  };
  const slider = h("input", { type: "range", "aria-label": "Frame", oninput: scrub });
  const label = h("output", { class: "label" });
  const step = button("One step on (S)", "Step", () => act("step"));
  const phase = button("One phase on (P)", "Phase", () => act("phase"));
  const play = button("Play: step after step (space)", "Play", () => (playing ? stop() : start()));
  const speeds = [1, 2, 5, 10].map((n) => h("option", { value: n, selected: n === 2 }, `${n} a second`));
  const speed = h("select", { "aria-label": "Speed, in steps a second" }, ...speeds);

  function scrub() {
    stop();
    const isFirst = scrubbed === null;
    scrubbed = Number(slider.value);
    if (isFirst) awaited = send({ do: "goto", frame: scrubbed });
  }

  function start() {
    playing = { since: performance.now(), timer: null };
    play.textContent = "Stop";
    awaited = send({ do: "step" });
  }

  function stop() {
    clearTimeout(playing?.timer);
    playing = null;
    play.textContent = "Play";
  }

  // The answer has come: ask for what comes next, if anything does.
  function goOn() {
    awaited = null;
    if (scrubbed !== null && scrubbed !== face.frame) awaited = send({ do: "goto", frame: scrubbed });
    else scrubbed = null;
    if (!playing) return;
    if (face.error || face.broken || !face.has_work) return stop();
    const wait = Math.max(0, playing.since + 1000 / speed.value - performance.now());
    playing.timer = setTimeout(start, wait);
  }

  function draw(next) {
    face = next;
    const [first, newest] = face.frames;
    Object.assign(slider, { min: first, max: newest });
    if (scrubbed === null) slider.value = face.frame;
    label.textContent = `${face.label}${face.frame === newest ? "" : ` (frame ${comma(face.frame)} of ${comma(newest)})`}`;
    slider.setAttribute("aria-valuetext", label.textContent);
    moves.home.disabled = moves.back.disabled = face.frame === first;
    moves.forward.disabled = moves.end.disabled = face.frame === newest;
    step.disabled = play.disabled = Boolean(face.broken);
    phase.disabled = Boolean(face.broken) || face.has_own_step;
    phase.textContent = `Phase: ${face.next}`;
    phase.title = face.has_own_step ? "This scheduler has a step() of its own, which alone knows its phases" : "One phase on (P)";
    if (awaited !== null && face.answered === awaited) goOn();
  }

  function key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return false;
    if (["SELECT", "INPUT", "TEXTAREA"].includes(event.target.tagName)) return false;
    const isButton = event.target.tagName === "BUTTON";
    const wanted = { ArrowLeft: moves.back, ArrowRight: moves.forward, Home: moves.home, End: moves.end, s: step, p: phase, " ": isButton ? null : play }[event.key];
    wanted?.click();
    return Boolean(wanted);
  }

  const back = h("span", { class: "controls" }, moves.home, moves.back, slider, moves.forward, moves.end);
  const on = h("span", { class: "controls" }, phase, step, play, speed);
  return { elements: [on, back, label], draw, key, stop };
};
