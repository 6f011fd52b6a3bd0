// A fork: the form that asks for one, and both runs at the same step, one above the other, with what came out.
//
// makeForkPanel(host, send) -> {draw(face), destroy()}

const makeForkPanel = (() => {
  // One of the two runs: a title, its slots and its steps.
  function makeRun(parent, name, send) {
    const title = h("h4", {});
    const places = [h("div", {}), h("div", {})];
    const element = h("section", { class: `run ${name}` }, title, ...places);
    parent.append(element); // a drawing reads its colours from the page: it must stand there already
    const drawings = [
      makeSlotMap(places[0], { onFocus: (slot) => send({ do: "focus", run: name, slot }) }),
      makePhaseTimeline(places[1], { onStep: (step) => send({ do: "goto_fork", step }) }),
    ];
    return {
      draw(run, at) {
        const over = at > run.last ? `, over since step ${comma(run.last)}` : "";
        title.textContent = `${run.title}: step ${comma(at)}${over}`;
        element.setAttribute("aria-label", title.textContent);
        for (const drawing of drawings) drawing.draw({ ...run.view, animate: false });
      },
      destroy: () => drawings.forEach((drawing) => drawing.destroy()),
    };
  }

  return (host, send) => {
    const number = (props) => h("input", { type: "number", min: 1, ...props });
    const step = number({ min: 0, "aria-label": "Fork after this step" });
    const policy = h("select", {}, ...["ragged", "grouped"].map((name) => h("option", { value: name }, name)));
    const budget = number({});
    const running = number({});
    const form = h(
      "form",
      { class: "form", onsubmit: fork },
      h("label", {}, "After step", step),
      h("label", {}, "Decode", policy),
      h("label", {}, "Prefill budget", budget),
      h("label", {}, "Running, at most", running),
      h("button", { type: "submit" }, "Fork"),
    );
    const result = h("div", { class: "result", hidden: true });
    host.classList.add("fork");
    host.replaceChildren(h("h4", {}, "Fork: the same run, then under another policy"), form, result);
    let face = null;
    let shown = null; // the result's parts, while there is one
    let asked = null; // the step and the settings for which the form was filled in

    function fork(event) {
      event.preventDefault();
      const wanted = { decode_policy: policy.value, prefill_budget: Number(budget.value), max_running: Number(running.value) };
      const changed = Object.entries(wanted).filter(([name, value]) => value !== face.settings[name]);
      send({ do: "fork", step: Number(step.value), then: Object.fromEntries(changed) });
    }

    function draw(next) {
      face = next;
      const key = JSON.stringify([face.forkable, face.settings]);
      if (key !== asked) {
        asked = key;
        Object.assign(step, { value: face.forkable, max: face.forkable });
        policy.value = face.settings.decode_policy;
        budget.value = face.settings.prefill_budget;
        Object.assign(running, { value: face.settings.max_running, max: face.num_slots });
      }
      if (!face.fork) return close();
      shown ??= open(face.fork);
      shown.draw(face.fork);
    }

    function close() {
      shown?.destroy();
      shown = null;
      result.hidden = true;
    }

    function open({ runs }) {
      const words = h("p", { class: "words" });
      const table = h("table", {});
      const slider = h("input", { type: "range", min: 0, "aria-label": "Step of both runs", oninput: () => send({ do: "goto_fork", step: Number(slider.value) }) });
      const at = h("output", { class: "label" });
      const closing = h("button", { type: "button", onclick: () => send({ do: "close_fork" }) }, "Close the fork");
      result.hidden = false;
      result.replaceChildren(words, table, h("div", { class: "bar" }, slider, at, closing));
      const both = runs.map((run) => makeRun(result, run.name, send));

      return {
        draw(fork) {
          words.textContent = fork.words;
          table.replaceChildren(tableHead(fork), h("tbody", {}, ...fork.table.map(tableRow)));
          slider.max = fork.last;
          slider.value = fork.at;
          at.textContent = `step ${comma(fork.at)} of ${comma(fork.last)}${fork.at <= fork.step ? ", before the fork" : ""}`;
          slider.setAttribute("aria-valuetext", at.textContent);
          fork.runs.forEach((run, index) => both[index].draw(run, fork.at));
        },
        destroy: () => both.forEach((run) => run.destroy()),
      };
    }

    const tableHead = ({ runs }) => h("thead", {}, h("tr", {}, h("td", {}), ...runs.map((run) => h("th", { scope: "col" }, run.title))));
    const tableRow = ([what, ...values]) => h("tr", {}, h("th", { scope: "row" }, what), ...values.map((value) => h("td", {}, value)));

    return { draw, destroy: close };
  };
})();
