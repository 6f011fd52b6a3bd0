// The queue as it is now, whatever frame is shown, and what can be done to it: add, cancel, send to the back.
//
// makeRequestsPanel(host, send) -> {draw(face)}

const makeRequestsPanel = (host, send) => {
  const prompt = h("input", { type: "text", size: 18, required: true });
  const most = h("input", { type: "number", min: 1, max: 9999, value: 8, required: true });
  const promptLabel = h("span", {}, "Prompt");
  const form = h(
    "form",
    { class: "form", onsubmit: add },
    h("label", { class: "wide" }, promptLabel, prompt),
    h("label", {}, "Tokens, at most", most),
    h("button", { type: "submit" }, "Add"),
  );
  const lists = h("div", { class: "lists" });
  host.classList.add("requests");
  host.replaceChildren(h("h4", {}, "Requests now"), lists, form);
  let drawn = "";

  function add(event) {
    event.preventDefault();
    send({ do: "add", prompt: prompt.value, max_tokens: Number(most.value) });
    prompt.select();
  }

  const button = (words, text, message, disabled = false) =>
    h("button", { type: "button", "aria-label": words, title: words, disabled, onclick: () => send(message) }, text);

  const cancelOf = (id, cancelled) => button(`Cancel request ${id}`, "Cancel", { do: "cancel", request: id }, cancelled.has(id));

  function list(name, about, items) {
    const empty = items.length ? "" : h("span", { class: "soft" }, "empty");
    return h("div", { class: "list", "data-list": name }, h("span", { class: "name", title: about }, name), h("ul", { "aria-label": name }, ...items), empty);
  }

  function draw({ inbox, waiting, running, takes_text, broken }) {
    const key = JSON.stringify([inbox, waiting, running, broken]);
    promptLabel.textContent = takes_text ? "Prompt" : "Prompt (token ids)";
    if (key === drawn) return;
    drawn = key;
    form.querySelector("button").disabled = Boolean(broken);
    const cancelled = new Set(inbox.filter((item) => item.do === "cancel").map((item) => item.request));
    const posted = inbox.map((item) => h("li", {}, item.do === "add" ? `request ${item.request}` : `cancel ${item.request}`));
    const back = ([id], index) =>
      button(`Send request ${id} to the back of the queue, under a new id`, "To the back", { do: "to_back", request: id }, cancelled.has(id) || index === waiting.length - 1);
    lists.replaceChildren(
      list("inbox", "posted, and read in the next cleanup", posted),
      list("waiting", "in the order of the queue", waiting.map((entry, index) => h("li", {}, `request ${entry[0]}, ${plural(entry[1], "token")} `, back(entry, index), cancelOf(entry[0], cancelled)))),
      list("running", "in the order of admission", running.map(([id, slot]) => h("li", {}, `request ${id} in slot ${slot} `, cancelOf(id, cancelled)))),
    );
  }

  return { draw };
};
