// RadixTree: an outline with one row a node: the text of its edge, where its tokens lie, which slots hold it and when
// it was used last. It draws states.
//
// Rows are kept by node and renewed cell by cell, and away from sight they have no lines and bars, so a draw costs what
// has changed. Movements, fading and the walk of a
// hit are animations on top: the page itself is true at once. Which rows there are is told in astrai/widgets/outline.py
// too, for the SVG and the text, by the same rules.
//
// makeRadixTree(host, {onFocus(slot or null)}) -> {draw({state, animate}), destroy()}

const makeRadixTree = (() => {
  const SMALL = 32; // a tree of so many nodes is shown whole
  const RECENT = 20; // the nodes that were used last are never folded away
  const LISTED = 6; // groups of numbers in one sentence
  const ROW = 26; // pixels
  const TALLEST = 15.5 * ROW;
  const LONGEST = 600; // milliseconds of any movement
  // Widths of the columns: positions, tokens, slots, tick. What is left of the host's width is for the tree.
  const SIZES = {
    wide: { from: 880, bar: 200, len: 46, slots: 126, used: 70, gap: 10 },
    mid: { from: 560, bar: 110, len: 38, slots: 104, used: 46, gap: 8 },
    narrow: { from: 0, bar: 0, len: 28, slots: 62, used: 38, gap: 4 },
  };

  const STYLE = `
.radix { position: relative; }
.radix .row, .radix .columns { display: grid; grid-template-columns: var(--columns); column-gap: var(--gap); align-items: center; padding-right: 8px; }
.radix .columns { padding-bottom: 3px; border-bottom: 1px solid var(--ai-faint); color: var(--ai-soft); font-size: 11px; white-space: nowrap; }
.radix .columns span { overflow: hidden; text-overflow: ellipsis; }
.radix .columns .right { text-align: right; }
.radix .scroll { position: relative; max-height: ${TALLEST}px; overflow: hidden auto; }
.radix .scroll.more { mask-image: linear-gradient(#000 calc(100% - 26px), rgb(0 0 0 / 25%)); }
.radix .tree { position: relative; }
.radix .ghosts { position: absolute; inset: 0; overflow: hidden; pointer-events: none; }
.radix .row { height: ${ROW}px; border-radius: 3px; contain: strict; content-visibility: auto; }
.radix .ghosts .row { position: absolute; inset: 0 0 auto; }
.radix .row:hover, .radix .row:focus { background-color: var(--ai-panel); }
.radix .row:focus-visible { outline-offset: -2px; }
.radix .edge { display: flex; align-items: center; min-width: 0; height: ${ROW}px; }
.radix .edge svg { flex: none; overflow: visible; }
.radix .edge path { fill: none; stroke: var(--ai-line); stroke-width: 1.25; }
.radix .edge path.lit { stroke: var(--ai-focus); stroke-width: 2.5; }
.radix .edge circle { fill: var(--ai-bg); stroke: var(--ai-line); stroke-width: 1.5; }
.radix .row[data-locked="true"] circle { fill: var(--ai-text); stroke: var(--ai-text); }
.radix .row[data-hit] circle { stroke: var(--ai-focus); stroke-width: 2.5; }
.radix .label { overflow: hidden; font: 12px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; text-overflow: ellipsis; white-space: pre; }
.radix b.special { display: inline-block; margin: 0 2px; padding: 0 5px; border: 1px solid var(--ai-faint); border-radius: 7px; background: var(--ai-panel); color: var(--ai-soft); font: 11px/15px system-ui, sans-serif; }
.radix .row:is(:hover, :focus) b.special { background: var(--ai-bg); }
.radix .sign { color: var(--ai-soft); }
.radix[data-size="narrow"] :is(.label, b.special) { font-size: 11px; }
.radix[data-size="narrow"] b.special { margin: 0 1px; padding: 0 3px; }
.radix .row[data-node="0"] .label, .radix .fold .label { color: var(--ai-soft); font: 12px/1.4 system-ui, sans-serif; }
.radix .row[data-node="0"] .bar { visibility: hidden; }
.radix .fold { cursor: pointer; }
.radix .fold .edge { grid-column: 1 / -1; }
.radix .fold u { margin-right: 6px; padding: 1px 8px; border: 1px dashed var(--ai-line); border-radius: 9px; color: var(--ai-text); text-decoration: none; }
.radix .marks { display: flex; gap: 4px; white-space: nowrap; }
.radix .mark { padding: 0 4px; border: 1px solid var(--ai-line); border-radius: 3px; color: var(--ai-soft); font-size: 11px; line-height: 16px; }
.radix .mark.hit { border-color: var(--ai-hit); background: var(--ai-hit); color: var(--ai-hit-ink); }
.radix .mark.evicted { border-color: var(--ai-evicted); background: var(--ai-evicted); color: var(--ai-evicted-ink); }
.radix .mark.decode { border-color: var(--ai-decode); background: var(--ai-decode); color: var(--ai-decode-ink); }
.radix .mark.prefill { border-color: var(--ai-prefill); background: var(--ai-prefill); color: var(--ai-prefill-ink); }
.radix .bar { position: relative; height: 10px; background: linear-gradient(var(--ai-faint), var(--ai-faint)) 0 50% / 100% 1px no-repeat; }
.radix[data-size="narrow"] .bar, .radix[data-size="narrow"] .where { display: none; }
.radix .bar i { position: absolute; top: 0; bottom: 0; min-width: 2px; border: 1px solid var(--ai-line); border-radius: 2px; background: var(--ai-panel); }
.radix .row[data-locked="true"] .bar i { background: var(--ai-line); }
.radix .row .bar i.lit { border-color: var(--ai-focus); background: var(--ai-focus); }
.radix .bar i[hidden] { display: none; }
.radix .len { font-size: 12px; font-variant-numeric: tabular-nums; text-align: right; }
.radix .slots { display: flex; gap: 3px; overflow: hidden; }
.radix .slot { position: relative; flex: none; height: 17px; padding: 0 4px; border: 1px solid var(--ai-line); border-radius: 4px; font-size: 11px; line-height: 15px; font-variant-numeric: tabular-nums; white-space: nowrap; cursor: pointer; }
.radix .slot.locked { padding-left: 14px; border-color: var(--ai-text); background: var(--ai-text); color: var(--ai-bg); }
.radix .slot.locked::before { content: ""; position: absolute; left: 4px; top: 7px; width: 7px; height: 5px; background: currentColor; }
.radix .slot.locked::after { content: ""; position: absolute; left: 5px; top: 3px; width: 5px; height: 5px; border: 1.2px solid currentColor; border-bottom: 0; border-radius: 3px 3px 0 0; box-sizing: border-box; }
.radix .slot.more { border-style: dotted; padding: 0 3px; }
.radix .used { justify-self: end; padding: 0 4px; border-radius: 3px; font-size: 11px; line-height: 17px; font-variant-numeric: tabular-nums; }
.radix .used[data-age="0"] { background: color-mix(in srgb, var(--ai-hit) 34%, transparent); }
.radix .used[data-age="1"] { background: color-mix(in srgb, var(--ai-hit) 20%, transparent); }
.radix .used[data-age="2"] { background: color-mix(in srgb, var(--ai-hit) 9%, transparent); }
.radix .used[data-age="3"] { color: var(--ai-soft); }
.radix .legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin-top: 6px; padding-top: 5px; border-top: 1px solid var(--ai-faint); color: var(--ai-soft); font-size: 12px; }
.radix .legend > span { display: inline-flex; align-items: center; gap: 5px; }
.radix .legend .slot { color: var(--ai-text); cursor: default; }
.radix .legend .slot.locked { color: var(--ai-bg); }
.radix .tip { font-size: 12px; width: max-content; }
.radix .tip[hidden] { display: none; }
.radix .tip p { margin: 0 0 3px; }
.radix .tip .mono { overflow-wrap: anywhere; }
.radix .status { margin-top: 4px; }
`;

  // --- which rows there are -------------------------------------------------------------------------------------------

  // The tree in the order of the page, the root first. A row has `key`, `level`, `parent` (an id, null for the root) and
  // either the facts of a node (`id`, ...) or of a fold (`fold`: the id below which branches are folded away).
  // `pass`, `own` and `stem` are its lines: one digit each, 0 for none, 1 for a line, 2 for one that the last hit took.
  function outline(state, opened) {
    const { nodes } = state;
    const children = inOrder(nodes);
    const oldest = oldestLeaf(nodes, children);
    const facts = { nodes, children, opened, oldest, keep: inUse(nodes, oldest), hit: lastHit(state), newest: newestTick(nodes) };
    const rows = [];
    addNode(rows, facts, 0, 0, { level: 0, pass: "", own: "000" });
    return rows;
  }

  function addNode(rows, facts, id, start, where) {
    const { nodes, hit } = facts;
    const node = nodes[id] ?? { text: "", len: 0, holders: [], locked: false, used: 0, parent: null };
    const isLit = hit !== null && hit.path.has(id);
    const end = start + node.len;
    const below = branches(facts, id);
    const stem = !below.length ? 0 : isLit && hit.node !== id ? 2 : 1;
    const matched = isLit ? Math.min(end, hit.len) - start : null;
    const age = facts.newest - node.used;
    const more = { start, end, age, stem, matched, hit: isLit && hit.node === id ? hit : null, oldest: facts.oldest === id };
    rows.push({ key: String(id), id, ...node, ...where, ...more });

    const lit = hit === null ? -1 : below.findIndex((branch) => hit.path.has(branch.id));
    const pass = where.level ? where.pass + where.own[2] : "";
    below.forEach((branch, index) => {
      const lower = index === below.length - 1 ? 0 : index < lit ? 2 : 1;
      const own = `${index <= lit ? 2 : 1}${index === lit ? 2 : 1}${lower}`;
      const there = { level: where.level + 1, pass, own };
      if (branch.fold === undefined) addNode(rows, facts, branch.id, end, there);
      else rows.push({ key: `fold ${id}`, parent: id, ...branch, ...there, stem: 0 });
    });
  }

  // Ids of children by parent, in the order of their text: neither a split nor a merge changes how a text begins, so no
  // branch moves.
  function inOrder(nodes) {
    const children = new Map();
    for (const [name, { parent }] of Object.entries(nodes)) {
      if (children.has(parent)) children.get(parent).push(Number(name));
      else children.set(parent, [Number(name)]);
    }
    const compare = (a, b) => (nodes[a].text < nodes[b].text ? -1 : nodes[a].text > nodes[b].text ? 1 : a - b);
    for (const siblings of children.values()) siblings.sort(compare);
    return children;
  }

  // The nodes that are never folded away, or null for all: what is locked, what was used last, the oldest leaf.
  function inUse(nodes, oldest) {
    const ids = Object.keys(nodes).map(Number);
    if (ids.length <= SMALL) return null;
    const locked = ids.filter((id) => nodes[id].locked);
    const recent = ids.sort((a, b) => nodes[b].used - nodes[a].used || b - a).slice(0, RECENT);
    const keep = new Set();
    for (const start of [...locked, ...recent, oldest])
      for (let id = start; id && !keep.has(id); id = nodes[id].parent) keep.add(id);
    return keep;
  }

  // What stands below a node: its branches, then one row for those folded away. A single node is not worth a fold.
  function branches({ nodes, children, keep, opened }, id) {
    const all = children.get(id) ?? [];
    const away = keep ? all.filter((child) => !keep.has(child)) : [];
    const hidden = away.flatMap((child) => within(child, children));
    if (hidden.length < 2 || !(keep.has(id) || id === 0)) return all.map((child) => ({ id: child }));
    const isOpen = opened.has(id);
    const shown = [...all.filter((child) => keep.has(child)), ...(isOpen ? away : [])];
    const tokens = hidden.reduce((sum, child) => sum + nodes[child].len, 0);
    return [...shown.map((child) => ({ id: child })), { fold: id, count: away.length, hidden: hidden.length, tokens, isOpen }];
  }

  function within(id, children) {
    const found = [id];
    for (let at = 0; at < found.length; at += 1) found.push(...(children.get(found[at]) ?? []));
    return found;
  }

  // The leaf that goes first when room is needed: the least recently used one that is not locked.
  function oldestLeaf(nodes, children) {
    let oldest = null;
    for (const [name, { locked, used }] of Object.entries(nodes))
      if (!locked && !children.has(Number(name)) && (oldest === null || used < nodes[oldest].used)) oldest = Number(name);
    return oldest;
  }

  const newestTick = (nodes) => Object.values(nodes).reduce((most, { used }) => Math.max(most, used), 0);

  // The last hit that the news tell of, followed through the splits and merges since; null when it is gone.
  function lastHit({ news, nodes }) {
    const at = news.findLastIndex(({ kind, node }) => kind === "matched" && node);
    if (at < 0) return null;
    let { node } = news[at];
    for (const item of news.slice(at)) if (item.kind === "merged" && item.child === node) node = item.node;
    if (!nodes[node]) return null;
    const path = pathTo(node, nodes);
    let end = path.reduce((sum, id) => sum + nodes[id].len, 0);
    while (end - nodes[path.at(-1)].len >= news[at].len) end -= nodes[path.pop()].len;
    return { node: path.at(-1), len: news[at].len, request: news[at].request, path: new Set([0, ...path]) };
  }

  function pathTo(node, nodes) {
    const path = [];
    for (let id = node; id; id = nodes[id].parent) path.unshift(id);
    return path;
  }

  // --- words ----------------------------------------------------------------------------------------------------------

  const many = (n, one, several) => (n === 1 ? `1 ${one}` : `${comma(n)} ${several}`);
  const allTokens = ({ nodes }) => Object.values(nodes).reduce((sum, { len }) => sum + len, 0);

  function summary(state, isWide) {
    const holding = state.slots.filter(({ node }) => node).length;
    const size = `${plural(Object.keys(state.nodes).length, "node")}, ${plural(allTokens(state), "token")}`;
    return isWide ? `${size}, held by ${holding} of ${plural(state.slots.length, "slot")}` : size;
  }

  function heldBy({ holders, locked }, slots) {
    const held = `held by ${holders.length === 1 ? "slot" : "slots"} ${listed(holders)}`;
    if (!locked) return held;
    const lockers = holders.filter((slot) => slots[slot].locked);
    return lockers.length === holders.length ? `${held}, locked` : `${held}, locked by ${listed(lockers)}`;
  }

  // "0 to 3, 7"; of many groups the first few, and how many numbers there are beside them.
  function listed(numbers) {
    const groups = runsOf(numbers, () => 0);
    const shown = groups.length <= LISTED + 1 ? groups : groups.slice(0, LISTED);
    const words = shown.map(({ first, last }) => (first === last ? first : `${first}${last === first + 1 ? ", " : " to "}${last}`)).join(", ");
    const others = shown.reduce((left, { first, last }) => left - (last - first + 1), numbers.length);
    return others ? `${words} and ${comma(others)} more` : words;
  }

  // Neighbouring numbers of one kind as {first, last, kind}.
  function runsOf(numbers, kindOf) {
    const runs = [];
    for (const n of numbers) {
      const kind = kindOf(n);
      const run = runs.at(-1);
      if (run && run.last === n - 1 && run.kind === kind) run.last = n;
      else runs.push({ first: n, last: n, kind });
    }
    return runs;
  }

  const usedAt = ({ used }) => (used ? `used at tick ${comma(used)}` : "not used yet");
  const foundHere = ({ request, len }) => `request ${request} found its first ${plural(len, "token")}, up to here`;
  const foldSize = (row) => `${plural(row.hidden, "node")}, ${plural(row.tokens, "token")}`;
  const foldNames = (row) => many(row.count, "branch", "branches");

  // What a screen reader says of a row.
  function sentence(row, state) {
    if (row.fold !== undefined) return `${foldNames(row)} not in use, ${foldSize(row)}. Enter ${row.isOpen ? "folds" : "opens"} them`;
    if (row.id === 0) return `root of ${summary(state, false)}`;
    const parts = [`“${visible(row.text)}”`, plural(row.len, "token"), heldBy(row, state.slots), usedAt(row)];
    if (row.hit) parts.push(`last hit: ${foundHere(row.hit)}`);
    if (row.oldest) parts.push("the leaf to go first");
    return parts.join(", ");
  }

  function tipLines(row, state) {
    if (row.fold !== undefined)
      return [`${foldNames(row)} not in use`, foldSize(row), `No request needs them now. A click or Enter ${row.isOpen ? "folds" : "opens"} them.`];
    if (row.id === 0) return ["The root, where every row begins", summary(state, true)];
    const owners = row.holders.filter((slot) => state.slots[slot].locked).map((slot) => state.slots[slot].owner);
    const lines = [
      `node ${row.id}: ${plural(row.len, "token")}, positions ${comma(row.start)} to ${comma(row.end - 1)}`,
      heldBy(row, state.slots),
      owners.length ? `may not be evicted while ${owners.length === 1 ? "request" : "requests"} ${listed(owners)} ${owners.length === 1 ? "runs" : "run"}` : "may be evicted: no running request needs it",
      `${usedAt(row)}${!row.used ? "" : row.age ? `, ${plural(row.age, "tick")} ago` : ", the newest"}`,
    ];
    if (row.hit) lines.push(`last hit: ${foundHere(row.hit)}`);
    else if (row.matched > 0) lines.push("on the path of the last hit");
    if (row.oldest) lines.push("the least recently used leaf that is not locked: the first to go when room is needed");
    return lines;
  }

  // What happened to the tree in the last step that the news tell of.
  function lastNews({ news }) {
    const counts = { matched: 0, miss: 0, split: 0, inserted: 0, merged: 0, evicted: 0 };
    const last = news.findLast(({ kind }) => kind in counts);
    if (!last) return "";
    const words = [];
    for (const item of news) {
      if (item.step !== last.step || !(item.kind in counts)) continue;
      counts[item.kind] += 1;
      if (item.kind === "matched") words.push(`request ${item.request} found ${plural(item.len, "token")}`);
      if (item.kind === "miss") words.push(`request ${item.request} found nothing`);
    }
    if (counts.split) words.push(`${many(counts.split, "edge was", "edges were")} split`);
    if (counts.inserted) words.push(many(counts.inserted, "piece of text was added", "pieces of text were added"));
    if (counts.merged) words.push(`${many(counts.merged, "node was", "nodes were")} joined with the one above`);
    if (counts.evicted) words.push(`${many(counts.evicted, "leaf was", "leaves were")} evicted`);
    const isCut = news[0].step === last.step; // only the latest happenings are kept
    return `Step ${comma(last.step)}${isCut ? ", at its end" : ""}: ${words.join("; ")}.`;
  }

  // --- the cells of a row ---------------------------------------------------------------------------------------------

  // Special tokens such as <|user|> as small plates, line breaks as signs.
  function edgeText(text) {
    return visible(text)
      .split(/(<\|[a-z_]+\|>|⏎)/)
      .filter(Boolean)
      .map((part) => (part.startsWith("<|") ? h("b", { class: "special" }, part.slice(2, -2)) : part === "⏎" ? h("span", { class: "sign" }, part) : part));
  }

  // The lines from the branches above down to this row, plain and lit, as the data of two paths.
  function branchLines({ level, pass, own, stem, fold }, indent) {
    const middle = ROW / 2;
    const drawn = ["", "", ""];
    const column = (at) => at * indent + 8;
    for (let at = 0; at < pass.length; at += 1) if (pass[at] !== "0") drawn[pass[at]] += `M${column(at)} 0V${ROW}`;
    if (level) {
      const x = column(level - 1);
      const to = column(level) - (fold === undefined ? 4 : 0);
      const bend = Math.min(6, to - x);
      if (own[2] !== "0") drawn[1] += `M${x} 0V${ROW}`;
      if (own[0] === "2") drawn[2] += `M${x} 0V${own[2] === "2" ? ROW : middle - bend}`;
      drawn[own[1]] += `M${x} ${own[0] === "2" ? middle - bend : 0}V${middle - bend}Q${x} ${middle} ${x + bend} ${middle}H${to}`;
    }
    if (stem) drawn[stem] += `M${column(level)} ${middle + 5}V${ROW}`;
    return drawn;
  }

  // Neighbouring slots on one plate; those that do not fit are counted on the last.
  function slotPlates(runs, room) {
    const plates = [];
    let count = runs.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    for (const [index, run] of runs.entries()) {
      const name = run.first === run.last ? String(run.first) : `${run.first}–${run.last}`;
      const width = 13 + 7 * name.length + (run.kind ? 10 : 0);
      if (width > room - (index < runs.length - 1 ? 18 + 7 * String(count).length : 0)) break;
      room -= width;
      count -= run.last - run.first + 1;
      plates.push({ name, look: run.kind ? "slot locked" : "slot", slot: run.first });
    }
    if (count) plates.push({ name: plates.length ? `+${count}` : plural(count, "slot"), look: "slot more", slot: null });
    return plates;
  }

  const slotPlate = ({ name, look, slot }) => h("span", { class: look, "data-slot": slot }, name);

  // Plates that stay are changed rather than made anew.
  function fillSlots(cell, plates) {
    while (cell.childElementCount > plates.length) cell.lastChild.remove();
    let there = cell.firstChild;
    for (const plate of plates) {
      if (!there) {
        cell.append(slotPlate(plate));
        continue;
      }
      const { name, look, slot } = plate;
      if (there.className !== look) there.className = look;
      if (there.firstChild.data !== name) there.firstChild.data = name;
      if (slot === null) there.removeAttribute("data-slot");
      else if (there.dataset.slot !== String(slot)) there.dataset.slot = slot;
      there = there.nextSibling;
    }
  }

  // How long ago: 0 the newest, 1 recently, 2 a while ago, 3 long ago or never.
  const ageGroup = ({ age, used }) => (!used || age >= 100 ? 3 : age >= 10 ? 2 : age > 0 ? 1 : 0);

  // Rows are copies of these two, which is quicker than making each from its parts.
  const LINES = () => s("svg", { height: ROW, "aria-hidden": "true" }, s("path"), s("path", { class: "lit" }), s("circle", { cy: ROW / 2, r: 4 }));
  const EDGE = () => h("span", { class: "edge" }, LINES(), h("span", { class: "label" }));
  const CELLS = () => ["marks", "bar", "len", "slots", "used"].map((name) => h("span", { class: name }, name === "bar" ? [h("i"), h("i", { class: "lit", hidden: true })] : []));
  const TEMPLATES = {
    node: h("div", { class: "row", role: "treeitem", tabindex: "-1" }, EDGE(), CELLS()),
    fold: h("div", { class: "row fold", role: "treeitem", tabindex: "-1" }, EDGE()),
  };
  TEMPLATES.fold.querySelector("circle").remove();

  function makeRow(row) {
    const element = TEMPLATES[row.fold === undefined ? "node" : "fold"].cloneNode(true);
    element.dataset.key = row.key;
    const [edge, marks, bar, len, slots, used] = element.children;
    const cells = { lines: edge.firstChild, label: edge.lastChild, marks, bar, len, slots, used };
    return { element, cells, row: null, y: null, size: null, had: {} };
  }

  // Calls `renew` where a cell's value is not the one it had.
  function renewed(one, name, value, renew) {
    if (one.had[name] === value) return false;
    one.had[name] = value;
    renew(value);
    return true;
  }

  function attribute(one, name, value) {
    if (one.had[name] === value) return;
    one.had[name] = value;
    if (value === null) one.element.removeAttribute(name);
    else one.element.setAttribute(name, value);
  }

  function fillRow(one, row, look) {
    const was = one.row;
    one.row = row;
    if (was && row.id !== 0 && one.size === look.size && isSame(row, was, look.relocked)) return;
    one.size = look.size;
    if (row.fold === undefined) fillNode(one, row, look);
    else fillFold(one, row);
    attribute(one, "aria-level", row.level + 1);
    attribute(one, "aria-expanded", row.fold !== undefined ? row.isOpen : row.stem ? true : null);
    const facts = `${row.text} ${row.len} ${one.had.slots} ${row.used} ${one.had.marks} ${row.count} ${row.hidden} ${row.tokens} ${row.isOpen}`;
    renewed(one, "words", row.id === 0 ? summary(look.state) : facts, () => attribute(one, "aria-label", sentence(row, look.state)));
  }

  // The slots that were locked or let go between two states; the earlier one may be undefined.
  function relockedSince(was, { slots }) {
    return new Set(slots.flatMap(({ locked }, slot) => (locked === was?.slots[slot]?.locked ? [] : [slot])));
  }

  // Whether a row says what it said in the last draw. Its shapes are renewed apart from that. `relocked` are
  // the slots that were locked or let go since.
  function isSame(row, was, relocked) {
    return (
      row.len === was.len &&
      row.used === was.used &&
      row.matched === was.matched &&
      row.oldest === was.oldest &&
      row.locked === was.locked &&
      row.parent === was.parent &&
      row.level === was.level &&
      !row.stem === !was.stem &&
      row.count === was.count &&
      row.hidden === was.hidden &&
      row.tokens === was.tokens &&
      row.isOpen === was.isOpen &&
      row.hit?.request === was.hit?.request &&
      row.hit?.len === was.hit?.len &&
      row.text === was.text &&
      (!row.holders || (row.holders.length === was.holders.length && row.holders.every((slot, at) => slot === was.holders[at] && !relocked.has(slot))))
    );
  }

  // What a row shows beside its words: lines, bars, the colour of its age. Only rows near sight have them: a hit lights
  // the lines of all rows that it passes, and a use ages all that were not used, which is most of a large tree.
  function fillShapes(one, { indent, scale }, isNear) {
    const { cells, row } = one;
    const known = isNear ? `${row.level} ${row.pass} ${row.own} ${row.stem} ${indent}` : "";
    renewed(one, "lines", known, () => (isNear ? fillLines(one, branchLines(row, indent), row.level * indent + 8) : fillLines(one, ["", "", ""], 8)));
    if (row.fold !== undefined) return;
    const barOf = (len) => (isNear && len ? `${row.start} ${len} ${scale}` : "");
    renewed(one, "bar", barOf(row.len), (isThere) => fillBar(cells.bar.firstChild, row.start, isThere && row.len, scale));
    renewed(one, "lit bar", barOf(row.matched), (isThere) => fillBar(cells.bar.lastChild, row.start, isThere && row.matched, scale));
    renewed(one, "age", isNear && row.id ? ageGroup(row) : "", (group) => (cells.used.dataset.age = group));
  }

  function fillLines(one, [, plainly, brightly], column) {
    const [plain, lit, dot] = one.cells.lines.children;
    renewed(one, "plain", plainly, (d) => plain.setAttribute("d", d));
    renewed(one, "lit", brightly, (d) => lit.setAttribute("d", d));
    renewed(one, "column", column, (x) => {
      one.cells.lines.setAttribute("width", x + 10);
      dot?.setAttribute("cx", x);
    });
  }

  function fillFold(one, row) {
    renewed(one, "text", `${row.count} ${row.hidden} ${row.tokens} ${row.isOpen}`, () => {
      const name = row.isOpen ? `fold ${foldNames(row)} again` : `… ${foldNames(row).replace(" ", " more ")}`;
      one.cells.label.replaceChildren(h("u", {}, name), row.isOpen ? "" : foldSize(row));
    });
    attribute(one, "data-fold", row.fold);
    attribute(one, "data-count", row.hidden);
  }

  function fillNode(one, row, { state, size }) {
    const { cells } = one;
    const isRoot = row.id === 0;
    renewed(one, "text", row.text, () => cells.label.replaceChildren(...(isRoot ? ["root"] : edgeText(row.text))));
    renewed(one, "marks", `${row.hit ? `${row.hit.request} ${row.hit.len}` : ""} ${row.oldest} ${size}`, () => fillMarks(cells.marks, row, size));
    renewed(one, "len", row.len, () => (cells.len.textContent = isRoot ? "" : comma(row.len)));
    const runs = runsOf(row.holders, (slot) => state.slots[slot].locked);
    const held = `${runs.map(({ first, last, kind }) => `${first}-${last}${kind ? "L" : ""}`)} ${size}`;
    renewed(one, "slots", held, () => fillSlots(cells.slots, slotPlates(runs, SIZES[size].slots)));
    renewed(one, "used", row.used, () => (cells.used.textContent = isRoot ? "" : row.used || "-"));
    attribute(one, "data-node", row.id);
    attribute(one, "data-parent", row.parent);
    attribute(one, "data-holders", row.holders.join());
    attribute(one, "data-locked", row.locked);
    attribute(one, "data-hit", row.matched);
    attribute(one, "data-oldest", row.oldest || null);
  }

  function fillMarks(cell, row, size) {
    const marks = [];
    const { letter } = roleOf("hit");
    if (row.hit) marks.push(h("span", { class: "mark hit" }, size === "wide" ? `${letter} request ${row.hit.request}: ${plural(row.hit.len, "token")}` : `${letter} ${comma(row.hit.len)}`));
    if (row.oldest) marks.push(h("span", { class: "mark" }, "oldest"));
    cell.replaceChildren(...marks);
  }

  function fillBar(bar, start, len, scale) {
    bar.hidden = !len;
    if (len) bar.setAttribute("style", `left:${((100 * start) / scale).toFixed(2)}%;width:${((100 * len) / scale).toFixed(2)}%`);
    else bar.removeAttribute("style");
  }

  // A scale with room for the longest row, so round that it rarely changes.
  function scaleFor(longest) {
    let unit = 16;
    while (longest > 8 * unit) unit *= 2;
    return Math.max(1, Math.ceil(longest / unit)) * unit;
  }

  function legend() {
    const item = (sample, words) => h("span", {}, sample, words);
    return h(
      "div",
      { class: "legend", "aria-hidden": "true" },
      item(slotPlate({ name: "2", look: "slot", slot: null }), "held by a free slot"),
      item(slotPlate({ name: "2", look: "slot locked", slot: null }), "locked: held by a running request's slot"),
      item(h("span", { class: "mark hit" }, roleOf("hit").letter), "the last hit"),
      item(h("span", { class: "mark" }, "oldest"), "the leaf to go first"),
    );
  }

  // --- the picture ----------------------------------------------------------------------------------------------------

  return function makeRadixTree(host, { onFocus = () => {} } = {}) {
    const columns = h("div", { class: "columns", "aria-hidden": "true" });
    const tree = h("div", { class: "tree", role: "tree", "aria-label": "Radix tree: what the slots hold" });
    const ghosts = h("div", { class: "ghosts", "aria-hidden": "true" });
    const scroll = h("div", { class: "scroll" }, tree, ghosts);
    const tip = h("div", { class: "tip", role: "tooltip", hidden: true });
    const status = h("div", { class: "status", role: "status", "aria-live": "polite" });
    host.classList.add("astrai", "radix");
    host.replaceChildren(h("style", {}, STYLE), columns, scroll, legend(), status, tip);
    const stopTheme = onTheme(host, () => {});

    const kept = new Map(); // rows of the page by key
    const opened = new Set(); // ids whose folded branches the reader opened
    let view = null;
    let look = null; // what all rows of the last draw share
    let rows = [];
    let drawnSeq = null;
    let current = "0"; // key of the row that Tab reaches
    let pointed = null; // key of the row that the tip tells of
    let width = host.clientWidth;
    let indent = 18;
    let scrolled = 0; // kept, since asking the page for it would make it lay itself out
    let saidAt = -Infinity;
    let saying = null;

    const observer = new ResizeObserver(([entry]) => {
      const now = Math.round(entry.contentRect.width);
      if (now === width) return;
      width = now;
      if (view) draw({ ...view, animate: false });
    });
    observer.observe(host);

    // --- drawing ------------------------------------------------------------------------------------------------------

    const size = () => Object.keys(SIZES).find((name) => width >= SIZES[name].from);

    function draw(next) {
      const { state } = next;
      const isMoving = next.animate && drawnSeq !== null && state.seq >= drawnSeq && !reducedMotion();
      const news = isMoving ? state.news.filter(({ seq }) => seq >= drawnSeq) : [];
      const before = new Map(isMoving ? [...kept].map(([key, { y }]) => [key, y]) : []);
      const relocked = relockedSince(view?.state, state);
      if (!isMoving) ghosts.replaceChildren();
      view = next;
      drawnSeq = state.seq;
      rows = outline(state, opened);
      look = { ...layOut(state), relocked };
      const removed = place();
      if (isMoving) move(before, removed, news);
      say(lastNews(state), !next.animate);
      if (pointed !== null) (kept.has(pointed) ? showTip : hideTip)(pointed);
    }

    // Columns, indent and scale for the width that there is.
    function layOut(state) {
      const deepest = rows.reduce((most, { level }) => Math.max(most, level), 1);
      const scale = scaleFor(rows.reduce((most, { end }) => Math.max(most, end ?? 0), 0));
      const name = size();
      const isWide = name === "wide";
      indent = Math.max(7, Math.min(name === "narrow" ? 12 : 18, Math.floor((width * 0.3) / deepest)));
      if (host.dataset.size !== name) {
        const { bar, len, slots, used, gap } = SIZES[name];
        host.dataset.size = name;
        host.style.setProperty("--columns", `minmax(0, 1fr) auto ${[bar, len, slots, used].filter(Boolean).map((n) => `${n}px`).join(" ")}`);
        host.style.setProperty("--gap", `${gap}px`);
      }
      const words = [summary(state, isWide), `positions 0 to ${comma(scale)}`, name === "narrow" ? "len" : "tokens", "in slots", isWide ? "used at tick" : "tick"];
      if (columns.dataset.words !== words.join("|")) {
        columns.dataset.words = words.join("|");
        const [whole, where, len, slots, used] = words.map((text) => h("span", {}, text));
        where.className = "where";
        len.className = used.className = "right";
        columns.replaceChildren(whole, h("span", {}), where, len, slots, used);
      }
      return { state, scale, indent, size: name };
    }

    // Makes the page equal to `rows`; returns what is no longer there.
    function place() {
      const focused = tree.contains(document.activeElement) ? document.activeElement : null;
      const there = new Set(rows.map(({ key }) => key));
      const removed = [...kept.values()].filter(({ row }) => !there.has(row.key));
      for (const { row, element } of removed) {
        kept.delete(row.key);
        element.remove();
      }
      let at = tree.firstChild;
      rows.forEach((row, index) => {
        if (!kept.has(row.key)) kept.set(row.key, makeRow(row));
        const one = kept.get(row.key);
        const y = index * ROW;
        fillRow(one, row, look);
        fillShapes(one, look, isNear(y) || (one.y !== null && inSight(one.y))); // in sight: it may slide from there
        one.y = y;
        if (at && one.element === at.nextSibling) at = one.element; // what it skips comes later
        if (one.element === at) at = at.nextSibling;
        else tree.insertBefore(one.element, at);
      });
      markMore();
      const lost = removed.find(({ row }) => row.key === current)?.row;
      setCurrent(kept.has(current) ? current : lost && kept.has(String(lost.parent)) ? String(lost.parent) : "0");
      if (focused && focused !== document.activeElement) kept.get(current).element.focus({ preventScroll: true });
      return removed;
    }

    function setCurrent(key) {
      if (kept.has(current)) attribute(kept.get(current), "tabindex", "-1");
      current = key;
      attribute(kept.get(current), "tabindex", "0");
    }

    // What has come into sight, or near to it, since the page was scrolled.
    function lookAround() {
      scrolled = scroll.scrollTop;
      for (const one of kept.values()) if (isNear(one.y)) fillShapes(one, look, true);
      markMore();
    }

    // Shows that there are rows below the lower border.
    function markMore() {
      scroll.classList.toggle("more", rows.length * ROW - scrolled > TALLEST + 1);
    }

    // At most one change a second, for those who hear it.
    function say(text, atOnce) {
      clearTimeout(saying);
      const wait = atOnce ? 0 : saidAt + 1000 - performance.now();
      if (wait > 0) saying = setTimeout(() => say(text, true), wait);
      else if (status.textContent !== text) {
        status.textContent = text;
        saidAt = performance.now();
      }
    }

    // --- movement: only what is in sight, LONGEST at most, and never a part of what is drawn ---------------------------

    const inSight = (y) => y > scrolled - ROW && y < scrolled + TALLEST;
    const isNear = (y) => y > scrolled - TALLEST && y < scrolled + 2 * TALLEST;

    function move(before, removed, news) {
      const of = (kind) => news.filter((item) => item.kind === kind);
      const lower = new Map(of("split").map(({ node, upper }) => [String(upper), String(node)]));
      const inserted = new Set(of("inserted").map(({ node }) => String(node)));
      for (const [key, { element, y }] of kept) {
        const from = before.get(key) ?? before.get(lower.get(key));
        const isNew = !before.has(key);
        if (from !== undefined && from !== y && (inSight(y) || inSight(from))) slide(element, from, y);
        if (!isNew || !inSight(y)) continue;
        if (from === undefined) grow(element);
        if (lower.has(key)) flash(y, "split", "decode");
        else if (inserted.has(key)) flash(y, "new", "prefill");
      }
      vanish(removed, of("evicted"), new Map(of("merged").map(({ node, child }) => [child, node])));
      of("matched").forEach(walk);
    }

    function slide(element, from, to) {
      const start = { transform: `translateY(${from - to}px)` };
      element.animate([start, { transform: "none" }], { duration: 380, easing: "ease-in-out" });
    }

    function grow(element) {
      element.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 400, easing: "ease-out" });
      const to = (part) => ({ transformOrigin: "left", transform: `scaleX(${part})` });
      element.querySelector(".bar i")?.animate([to(0), to(1)], { duration: 500, easing: "ease-out" });
    }

    // A word beside a row, for a moment.
    function flash(y, word, role) {
      const { bar, len, slots, used, gap } = SIZES[size()];
      const right = bar + len + slots + used + 4 * gap + 12;
      const tag = h("span", { class: `mark ${role}`, style: `position:absolute;right:${right}px;top:${y + 4}px` }, word);
      ghosts.append(tag);
      tag.animate([{ opacity: 1 }, { opacity: 1, offset: 0.6 }, { opacity: 0 }], { duration: LONGEST }).onfinish = () => tag.remove();
    }

    // Evicted rows fade in the order in which they went, leaf first; a merged one slides into its parent.
    function vanish(removed, evicted, mergedInto) {
      const order = new Map(evicted.map(({ node }, index) => [node, index]));
      const gone = removed.filter(({ row, y }) => inSight(y) && (order.has(row.id) || kept.has(String(mergedInto.get(row.id)))));
      gone.sort((a, b) => (order.get(a.row.id) ?? -1) - (order.get(b.row.id) ?? -1));
      gone.forEach(({ element, cells, row, y }, index) => {
        for (const name of ["role", "tabindex", "aria-label", "data-node", "data-key"]) element.removeAttribute(name);
        const into = order.has(row.id) ? null : kept.get(String(mergedInto.get(row.id)));
        if (!into) cells.marks.replaceChildren(h("span", { class: "mark evicted" }, `${roleOf("evicted").letter} evicted`));
        ghosts.append(element);
        const start = { transform: `translateY(${y}px)`, opacity: 1 };
        const end = { transform: into ? `translateY(${into.y}px)` : `translate(24px, ${y}px)`, opacity: 0 };
        const timing = { duration: LONGEST - 250, delay: Math.min(70 * index, 250), easing: "ease-in", fill: "both" };
        element.animate([start, end], timing).onfinish = () => element.remove();
      });
    }

    // A hit walks from the root down to where the match ended.
    function walk({ node }) {
      if (!view.state.nodes[node]) return;
      const path = [0, ...pathTo(node, view.state.nodes)].map((id) => kept.get(String(id)));
      path.forEach((one, index) => {
        if (!one || !inSight(one.y)) return;
        const lit = [{ backgroundColor: "color-mix(in srgb, var(--ai-hit) 45%, transparent)" }, { backgroundColor: "transparent" }];
        one.element.animate(lit, { duration: LONGEST - 300, delay: Math.min(90, 300 / path.length) * index, easing: "ease-in" });
      });
    }

    // --- pointer and keys ---------------------------------------------------------------------------------------------

    function showTip(key) {
      const { row, y } = kept.get(key);
      pointed = key;
      const [title, ...lines] = tipLines(row, view.state);
      const text = row.text ? h("p", { class: "mono" }, edgeText(row.text)) : null;
      tip.replaceChildren(...[text, h("p", {}, h("strong", {}, title)), ...lines.map((line) => h("p", {}, line))].filter(Boolean));
      tip.hidden = false;
      const top = scroll.offsetTop + y - scrolled;
      const isLow = top + ROW + tip.offsetHeight > host.offsetHeight && top > tip.offsetHeight;
      tip.style.top = `${isLow ? top - tip.offsetHeight - 4 : top + ROW + 2}px`;
      tip.style.left = `${Math.max(0, Math.min((row.level + 1) * indent, width - tip.offsetWidth - 4))}px`;
    }

    function hideTip() {
      pointed = null;
      tip.hidden = true;
    }

    // The tip of the row that has the keyboard, when the pointer has gone.
    function leave() {
      if (tree.contains(document.activeElement)) showTip(current);
      else hideTip();
    }

    function go(key) {
      const { element } = kept.get(key);
      element.focus({ preventScroll: true });
      element.scrollIntoView({ block: "nearest" });
    }

    function toggle({ fold, key }) {
      if (!opened.delete(fold)) opened.add(fold);
      draw({ ...view, animate: false });
      if (tree.contains(document.activeElement)) go(key);
    }

    function act(row, slot = row.holders?.[0]) {
      if (row.fold !== undefined) toggle(row);
      else if (slot !== undefined) onFocus(slot);
    }

    const keyOf = (event) => event.target.closest?.(".row")?.dataset.key;

    tree.addEventListener("keydown", (event) => {
      const at = rows.findIndex(({ key }) => key === keyOf(event));
      if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
      const row = rows[at];
      const acts = {
        ArrowDown: () => at + 1 < rows.length && go(rows[at + 1].key),
        ArrowUp: () => at > 0 && go(rows[at - 1].key),
        Home: () => go(rows[0].key),
        End: () => go(rows.at(-1).key),
        ArrowLeft: () => (row.isOpen ? toggle(row) : row.parent !== null && go(String(row.parent))),
        ArrowRight: () => (row.isOpen === false ? toggle(row) : row.stem && go(rows[at + 1].key)),
        Enter: () => act(row),
        " ": () => act(row),
        Escape: () => (hideTip(), onFocus(null)),
      };
      if (!acts[event.key]) return;
      event.preventDefault();
      event.stopPropagation();
      acts[event.key]();
    });
    tree.addEventListener("focusin", (event) => {
      setCurrent(keyOf(event));
      showTip(current);
    });
    tree.addEventListener("focusout", hideTip);
    tree.addEventListener("pointerover", (event) => keyOf(event) && showTip(keyOf(event)));
    tree.addEventListener("pointerleave", leave);
    tree.addEventListener("click", (event) => {
      const one = kept.get(keyOf(event));
      const slot = event.target.closest(".slot")?.dataset.slot;
      if (one && (one.row.fold !== undefined || slot !== undefined)) act(one.row, slot === undefined ? undefined : Number(slot));
    });
    scroll.addEventListener("scroll", () => {
      lookAround();
      if (pointed !== null) showTip(pointed);
    });
    // A host that is moved within the page stands at its top again, and no scroll event tells of it.
    tree.addEventListener("contentvisibilityautostatechange", (event) => {
      if (!event.skipped && kept.get(keyOf(event))?.had.lines === "") lookAround();
    });

    return {
      draw,
      destroy() {
        clearTimeout(saying);
        observer.disconnect();
        stopTheme();
        host.replaceChildren();
      },
    };
  };
})();
