// The source of the phase that ran, with the lines marked that were at work, and below each what came from it.
//
// makeSourcePanel(host) -> {draw(face)}

const makeSourcePanel = (host) => {
  const title = h("span", { class: "title mono" });
  const file = h("span", { class: "soft" });
  const lines = h("div", { class: "lines mono", tabindex: 0, role: "region" });
  host.classList.add("source");
  host.replaceChildren(h("div", { class: "caption" }, title, file), lines);
  let drawn = "";

  function draw({ source, rows, label }) {
    const key = JSON.stringify([source, rows]);
    if (key === drawn) return;
    drawn = key;
    title.textContent = source ? source.title : "Source";
    file.textContent = source ? ` in ${source.file || "a source that cannot be read"}` : " of the phase that ran: nothing yet";
    lines.setAttribute("aria-label", source ? `Source of ${source.title}, ${label}` : "No source yet");
    lines.replaceChildren(...rows.map(rowOf));
    lines.hidden = rows.length === 0;
    const first = lines.querySelector(".error, .work");
    if (first) lines.scrollTop = Math.max(0, first.offsetTop - lines.clientHeight / 3);
  }

  function rowOf([number, content, mark]) {
    if (number === null) return noteOf(content, mark);
    const sign = { work: "▸", error: "✕" }[mark] ?? "";
    return h(
      "div",
      { class: `line ${mark}`, "data-line": number },
      h("span", { class: "sign", "aria-hidden": "true" }, sign),
      h("span", { class: "number" }, number),
      h("span", { class: "code", style: hanging(content) }, content || " "),
    );
  }

  // Where a long line is broken, it goes on further to the right.
  function hanging(content) {
    const indent = content.length - content.trimStart().length + 4;
    return { paddingLeft: `${indent}ch`, textIndent: `-${indent}ch` };
  }

  function noteOf(content, mark) {
    const words = content.trimStart();
    const indent = content.length - words.length;
    const [, what, where] = words.match(/^(.*?)( \(in \w+\))?$/);
    return h(
      "div",
      { class: `note ${mark}`, style: { paddingLeft: `calc(52px + ${indent}ch)` } },
      mark === "error" ? "" : h("span", { "aria-hidden": "true" }, "• "),
      what,
      where ? h("span", { class: "soft" }, where) : "",
    );
  }

  return { draw };
};
