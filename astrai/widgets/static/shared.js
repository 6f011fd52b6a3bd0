// What all pictures share: the palette by role, themes, small helpers for elements and text. It draws nothing itself.
// PALETTE stands in front of this file, put there by astrai/widgets/assemble.py.

function roleOf(kind) {
  const role = PALETTE.roles[kind];
  if (!role) throw new Error(`no role ${kind} in the palette`);
  return role;
}

// The role in which a phase of the loop is drawn.
const phaseRole = (phase) => roleOf(PALETTE.phases[phase]);

// --- elements --------------------------------------------------------------------------------------------------------

function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

function s(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name === "style" && typeof value === "object") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Calls back as soon as an element stands in the page with a size. Before that no style can be read from it.
// Returns a function that gives up.
function whenShown(element, callback) {
  const observer = new ResizeObserver(() => {
    if (!element.isConnected || !element.clientWidth) return;
    observer.disconnect();
    callback();
  });
  observer.observe(element);
  return () => observer.disconnect();
}

// --- themes ----------------------------------------------------------------------------------------------------------

// A data-theme above the host wins, then JupyterLab's own mark, then what the reader's system prefers.
function themeOf(host) {
  const marked = host.closest?.("[data-theme]")?.dataset.theme;
  if (marked === "light" || marked === "dark") return marked;
  const jupyter = document.body?.dataset.jpThemeLight;
  if (jupyter) return jupyter === "true" ? "light" : "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

// Calls back now and whenever the theme changes; returns a function that ends it. Marks the host for the style sheet.
// JupyterLab hides its page while it changes the theme: a host that has no size then is told again once it has one.
function onTheme(host, callback) {
  let last = null;
  let giveUp = () => {};
  const look = () => {
    const theme = themeOf(host);
    if (theme === last) return;
    last = host.dataset.astraiTheme = theme;
    callback(theme);
    giveUp();
    if (!host.clientWidth) giveUp = whenShown(host, () => callback(last));
  };
  const media = matchMedia("(prefers-color-scheme: dark)");
  const observer = new MutationObserver(look);
  for (const marked of [document.documentElement, document.body, host.closest("[data-theme]")])
    if (marked) observer.observe(marked, { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] });
  media.addEventListener("change", look);
  look();
  return () => {
    giveUp();
    observer.disconnect();
    media.removeEventListener("change", look);
  };
}

function reducedMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

// --- hatches on a canvas ---------------------------------------------------------------------------------------------

// The pattern of a role for ctx.fillStyle, to be drawn over its colour: so that nothing depends on colour alone.
// Kept for each kind, darkness and scale in `cache`, a Map that the caller holds.
function hatchPattern(ctx, kind, cache, { dark = false, scale = 1 } = {}) {
  const { hatch } = roleOf(kind);
  if (!hatch) return null;
  const key = `${hatch} ${dark} ${scale}`;
  if (!cache.has(key)) {
    const size = Math.round(8 * scale);
    const tile = Object.assign(document.createElement("canvas"), { width: size, height: size });
    drawHatch(tile.getContext("2d"), hatch, size, dark ? "rgba(255,255,255,.4)" : "rgba(0,0,0,.32)");
    cache.set(key, ctx.createPattern(tile, "repeat"));
  }
  return cache.get(key);
}

function drawHatch(ctx, hatch, size, color) {
  const half = size / 2;
  ctx.strokeStyle = ctx.fillStyle = color;
  ctx.lineWidth = Math.max(1, size / 8);
  const line = (x0, y0, x1, y1) => {
    ctx.beginPath();
    ctx.moveTo(x0, y0);
    ctx.lineTo(x1, y1);
    ctx.stroke();
  };
  const rising = () => [-half, half].forEach((x) => line(x, size, x + size, 0));
  const falling = () => [-half, half].forEach((x) => line(x, 0, x + size, size));
  const dot = (x, y, radius) => {
    ctx.beginPath();
    ctx.arc(x, y, radius, 0, 7);
    ctx.fill();
  };
  const draw = {
    "/": rising,
    "\\": falling,
    x: () => (rising(), falling()),
    "+": () => (line(half, 0, half, size), line(0, half, size, half)),
    "-": () => line(0, half, size, half),
    "|": () => line(half, 0, half, size),
    ".": () => dot(half, half, size / 7),
    o: () => dot(half, half, size / 5),
    O: () => {
      ctx.beginPath();
      ctx.arc(half, half, size / 3, 0, 7);
      ctx.stroke();
    },
  }[hatch[0]];
  draw();
}

// --- words -----------------------------------------------------------------------------------------------------------

const figures = new Intl.NumberFormat("en-US"); // made once: making a formatter costs more than a whole drawing
const comma = (n) => figures.format(n);
const plural = (n, word) => `${comma(n)} ${word}${n === 1 ? "" : "s"}`;
const visible = (text) => text.replaceAll("\n", "⏎");

function clip(text, longest) {
  if (text.length <= longest) return text;
  const half = Math.floor((longest - 3) / 2);
  return `${text.slice(0, half)} … ${text.slice(-half)}`;
}
