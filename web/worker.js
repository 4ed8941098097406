// The detector, beside the page's own thread: the C API of csrc/c_api/mtfa_fast.h through WebAssembly. Offsets of
// fields are those of the header's structs with pointers of four bytes.
"use strict";

const BLOCK = 44100; // samples between two reports of progress
let wasm, detector, info, result = 0;

function check(status) {
  if (status) throw new Error(wasm.UTF8ToString(wasm._mtfa_last_error()));
}

// A function of the API that writes handles, pointers or sizes: its last `count` arguments are places for them.
function outputs(count, call) {
  const at = wasm._malloc(4 * count);
  try {
    check(call(...Array.from({ length: count }, (_, i) => at + 4 * i)));
    return Array.from({ length: count }, (_, i) => wasm.HEAPU32[at / 4 + i]);
  } finally {
    wasm._free(at);
  }
}

// Memory there for `bytes` while `use` runs.
function borrowed(bytes, use) {
  const at = wasm._malloc(bytes);
  if (!at) throw new Error("not enough memory");
  try {
    return use(at);
  } finally {
    wasm._free(at);
  }
}

const view = () => new DataView(wasm.HEAPU8.buffer);
const text = (at) => wasm.UTF8ToString(view().getUint32(at, true));

async function open(message) {
  wasm = await mtfaFast({ wasmBinary: message.wasm });
  [detector] = borrowed(message.weights.byteLength, (at) => {
    wasm.HEAPU8.set(new Uint8Array(message.weights), at);
    return borrowed(16, (options) => {
      wasm.HEAPU32.set([16, 1, 0, 0], options / 4); // its size, one thread, the best of the rest
      return outputs(1, (out) => wasm._mtfa_open_memory(at, message.weights.byteLength, options, out));
    });
  });
  info = borrowed(56, (at) => {
    view().setUint32(at, 56, true);
    check(wasm._mtfa_get_info(detector, at));
    const data = view();
    const list = data.getUint32(at + 36, true);
    const classes = Array.from({ length: data.getUint32(at + 32, true) }, (_, i) => ({
      name: text(list + 32 * i),
      threshold: data.getFloat64(list + 32 * i + 8, true),
      filter: Number(data.getBigInt64(list + 32 * i + 16, true)),
      score: data.getFloat64(list + 32 * i + 24, true),
    }));
    const number = (offset) => Number(data.getBigInt64(at + offset, true));
    return { rate: number(8), hop: number(16), bands: number(24), classes };
  });
  return { info };
}

function events() {
  const [list, count] = outputs(2, (first, size) => wasm._mtfa_result_events(result, first, size));
  const data = view();
  return Array.from({ length: count }, (_, i) => list + 40 * i).map((at) => ({
    label: text(at),
    index: Number(data.getBigInt64(at + 8, true)),
    onset: data.getFloat64(at + 16, true),
    offset: data.getFloat64(at + 24, true),
    score: data.getFloat32(at + 32, true),
  }));
}

function detect({ samples }) {
  const start = performance.now();
  const rate = BigInt(info.rate);
  const [recording] = outputs(1, (out) => wasm._mtfa_recording_open(detector, rate, out));
  try {
    borrowed(4 * BLOCK, (at) => {
      for (let done = 0; done < samples.length; done += BLOCK) {
        const block = samples.subarray(done, done + BLOCK);
        wasm.HEAPF32.set(block, at / 4);
        check(wasm._mtfa_recording_push(recording, at, block.length));
        postMessage({ progress: done / samples.length });
      }
    });
    check(wasm._mtfa_result_close(result));
    result = 0;
    [result] = outputs(1, (out) => wasm._mtfa_recording_finish(recording, out));
  } finally {
    wasm._mtfa_recording_close(recording);
  }
  const seconds = (performance.now() - start) / 1000;
  const [list, frames, classes] = outputs(3, (...out) => wasm._mtfa_result_probabilities(result, ...out));
  const probabilities = wasm.HEAPF32.slice(list / 4, list / 4 + frames * classes);
  const values = frames * info.bands;
  const spectrogram = borrowed(4 * samples.length, (from) =>
    borrowed(4 * values, (to) => {
      wasm.HEAPF32.set(samples, from / 4);
      check(wasm._mtfa_log_mel(detector, from, samples.length, rate, to, values));
      return wasm.HEAPF32.slice(to / 4, to / 4 + values);
    }),
  );
  return { frames, probabilities, spectrogram, seconds, events: events() };
}

function decide({ index, threshold }) {
  const { filter, score } = info.classes[index];
  check(wasm._mtfa_result_decide(result, index, threshold, BigInt(filter), score));
  return { events: events() };
}

onmessage = async ({ data }) => {
  try {
    postMessage({ id: data.id, answer: await { open, detect, decide }[data.task](data) });
  } catch (error) {
    postMessage({ id: data.id, error: String(error.message || error) });
  }
};
