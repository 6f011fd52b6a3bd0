// Plays a recording that astrai/widgets/frames.py made. It draws nothing.

// A value with a delta applied, as in astrai/widgets/deltas.py. It shares unchanged parts with `value`, which stays as
// it is.
function patch(value, delta) {
  if (typeof delta === "number") return value + delta;
  if (Array.isArray(delta)) return put(delta);
  const changes = Object.entries(delta);
  if (changes.length === 0) return value;
  const changed = Array.isArray(value) ? [...value] : { ...value };
  for (const [key, change] of changes) {
    if (Array.isArray(change) && change.length === 0) delete changed[key];
    else changed[key] = patch(changed[key], change);
  }
  return changed;

  function put([first, second, items]) {
    if (delta.length === 1) return first;
    // Python counts characters where JavaScript counts halves of some.
    if (typeof value === "string") return [...value].slice(first).join("") + second;
    if (delta.length === 2) return [...value.slice(first), ...second];
    return [...value.slice(0, first), ...items, ...value.slice(first + second)];
  }
}

// `frame(i)` is the state of a frame, `label(i)` its [step, phase that ended, events so far]. A frame may share parts with
// others: draw it, do not change it. The last one is kept, so that the next costs one patch.
function makePlayer(recording) {
  const { schema, count, labels, keyframes, deltas, keyframe_every: every } = recording;
  if (schema !== 1) throw new Error(`a recording of schema ${schema} is unknown here: this player reads schema 1`);
  let last = { index: -1, state: null };

  function check(index) {
    if (!Number.isInteger(index) || index < 0 || index >= count)
      throw new RangeError(`there is no frame ${index}: they count from 0 to ${count - 1}`);
  }

  function frame(index) {
    check(index);
    const key = Math.floor(index / every);
    const isNear = last.index >= key * every && last.index <= index;
    let { index: at, state } = isNear ? last : { index: key * every, state: keyframes[key] };
    while (at < index) state = patch(state, deltas[++at]);
    last = { index, state };
    return state;
  }

  function label(index) {
    check(index);
    return labels[index];
  }

  return { count, frame, label };
}
