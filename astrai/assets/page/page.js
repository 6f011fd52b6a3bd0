// The server's page: a chat, and the engine at work beside it. It speaks to this server alone, by the same API as every
// other client. makeDashboard and its drawings stand in front of this file.

const $ = (id) => document.getElementById(id);
let conversation = []; // a new chat is a new list: an answer under way belongs to the old one
let running = null; // the AbortController of the answer under way

onTheme($("page"), () => {});

// --- the API ---------------------------------------------------------------------------------------------------------

async function api(path, options = {}) {
  const headers = { ...options.headers };
  if ($("key").value) headers.authorization = `Bearer ${$("key").value}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401) $("key-row").hidden = false;
  const body = await answer.json().catch(() => null);
  throw Object.assign(new Error(body?.error?.message ?? `${answer.status} ${answer.statusText}`), { status: answer.status });
}

// The data of server-sent events, one string each.
async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (data.length) yield data.join("\n");
    }
  }
}

// --- the chat --------------------------------------------------------------------------------------------------------

function showMessage(role, text) {
  $("messages").querySelector(".empty")?.remove();
  const words = h("span", {}, text);
  const message = h("div", { class: `message ${role}` }, h("span", { class: "who" }, { user: "you", assistant: "the model", error: "the server" }[role]), words);
  $("messages").append(message);
  scrollDown();
  return { message, words };
}

function scrollDown() {
  $("messages").scrollTop = $("messages").scrollHeight;
}

function showEmpty() {
  $("messages").replaceChildren(h("p", { class: "empty" }, "Ask for a story, and watch the engine write it."));
}

function setRunning(controller) {
  running = controller;
  $("send").disabled = controller !== null;
  $("stop").disabled = controller === null;
}

// A field that is empty is not sent: the server then does as it does for everybody.
const numberIn = (id) => ($(id).value === "" ? undefined : +$(id).value);

async function say(text) {
  const chat = conversation;
  chat.push({ role: "user", content: text });
  showMessage("user", text);
  const { message, words } = showMessage("assistant", "");
  const controller = new AbortController();
  setRunning(controller);
  $("chat-status").textContent = "The model is writing.";
  const began = performance.now();
  let written = "";
  let usage = null;
  let reason = null;
  try {
    const system = $("system").value.trim();
    const body = {
      model: await modelName(),
      messages: [...(system ? [{ role: "system", content: system }] : []), ...chat],
      max_tokens: numberIn("max-tokens"),
      temperature: numberIn("temperature"),
      stream: true,
      stream_options: { include_usage: true },
    };
    const answer = await api("v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: controller.signal,
    });
    for await (const data of eventsOf(answer)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      usage = chunk.usage ?? usage;
      reason = chunk.choices[0]?.finish_reason ?? reason;
      written += chunk.choices[0]?.delta.content ?? "";
      const stays = $("messages").scrollTop + $("messages").clientHeight >= $("messages").scrollHeight - 30;
      words.textContent = written;
      if (stays) scrollDown();
    }
    $("chat-status").textContent = reason === "length" ? "The answer reached its longest length." : "The answer is complete.";
  } catch (error) {
    if (error.name === "AbortError") {
      reason = "stopped by you";
      $("chat-status").textContent = chat === conversation ? "Stopped." : "";
    } else {
      $("chat-status").textContent = "";
      showMessage("error", error.message);
    }
  }
  setRunning(null);
  if (written) chat.push({ role: "assistant", content: written });
  else {
    chat.pop(); // an unanswered message would make two of the same role in a row
    message.remove();
  }
  if (written) message.append(h("span", { class: "took" }, took(usage, reason, performance.now() - began)));
  scrollDown();
}

function took(usage, reason, ms) {
  const seconds = `${(ms / 1000).toFixed(1)} s`;
  if (!usage) return [seconds, reason].filter(Boolean).join(" · ");
  const cached = usage.prompt_tokens_details.cached_tokens;
  return `${plural(usage.prompt_tokens, "prompt token")}, ${comma(cached)} found in the cache · ${plural(usage.completion_tokens, "token")} in ${seconds} · ${reason}`;
}

let knownModel = null;
async function modelName() {
  if (!knownModel) {
    const models = await (await api("v1/models")).json();
    knownModel = models.data[0].id;
    $("model").textContent = knownModel;
  }
  return knownModel;
}

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || running) return;
  $("text").value = "";
  say(text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("compose").requestSubmit();
  }
});
$("stop").addEventListener("click", () => running?.abort());
$("fresh").addEventListener("click", () => {
  running?.abort();
  conversation = [];
  showEmpty();
  $("chat-status").textContent = "";
  $("text").focus();
});

// --- the engine ------------------------------------------------------------------------------------------------------

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Until somebody looks at the page. A browser opens few connections to one host: a hidden tab must not hold one.
function shown() {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    look();
  });
}

// Follows the engine for as long as the page is open; a lost connection is tried again.
async function followEngine() {
  let dashboard = null;
  let focus = null;
  let controller = null;
  const onFocus = (slot) => {
    if (slot === focus) return;
    focus = slot;
    controller?.abort(); // ask again, with that slot's tokens
  };
  document.addEventListener("visibilitychange", () => document.hidden && controller?.abort());
  for (;;) {
    await shown();
    controller = new AbortController();
    try {
      const query = focus === null ? "" : `&focus=${focus}`;
      const answer = await api(`v1/trace?view=snapshot${query}`, { signal: controller.signal });
      $("engine-note").textContent = "";
      $("counters").replaceChildren();
      dashboard ??= makeDashboard($("dashboard"), { onFocus });
      for await (const data of eventsOf(answer)) dashboard.draw({ ...JSON.parse(data), animate: true });
    } catch (error) {
      if (error.name === "AbortError") continue;
      if (error.status === 403) return followCounters(error.message);
      $("engine-note").textContent = error.status ? error.message : "The server does not answer.";
    }
    await pause(1000);
  }
}

async function followCounters(why) {
  $("engine-note").textContent = why;
  for (;;) {
    try {
      showCounters(await (await api("stats")).json());
    } catch (error) {
      $("counters").replaceChildren();
    }
    await pause(1000);
  }
}

function showCounters(stats) {
  const figures = {
    "running / waiting": `${comma(stats.running)} / ${comma(stats.waiting)}`,
    "slots in use": `${stats.num_slots - stats.free_slots} of ${stats.num_slots}`,
    "found in the cache": `${Math.round(100 * stats.hit_rate)} %`,
    "prompt tokens computed": comma(stats.prefilled_tokens),
    "tokens decoded": comma(stats.decoded_tokens),
    "steps": comma(stats.steps),
  };
  $("counters").replaceChildren(...Object.entries(figures).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

async function followHealth() {
  for (;;) {
    const health = await fetch("health").then((answer) => answer.json()).catch(() => ({ status: "unreachable" }));
    const good = health.status === "ok";
    const words = good ? "ready" : `${health.status}${health.reason ? `: ${health.reason}` : ""}`;
    if ($("health").textContent !== words) $("health").textContent = words;
    $("health").classList.toggle("bad", !good);
    await pause(good ? 5000 : 1000);
  }
}

showEmpty();
followHealth();
followEngine();
modelName().catch(() => {}); // whatever is wrong, the first message says it
$("text").focus();
