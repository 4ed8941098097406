"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const COLOURS = ["#e8590c", "#0b7285", "#9c36b5", "#2f9e44", "#c2255c", "#3b5bdb", "#b08900", "#5c6370"];
  const colour = (index) => COLOURS[index % COLOURS.length];
  // Dark to bright, as matplotlib's magma.
  const MAGMA = ["#000004", "#1d1147", "#51127c", "#832681", "#b73779", "#e75263", "#fc8961", "#fec488", "#fcfdbf"].map(
    (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)),
  );
  let info, shown; // what the detector says of itself, and the recording on the page

  // --- the worker: one question at a time each, answered by its number ---

  const worker = new Worker(URL.createObjectURL(new Blob([find("worker").textContent], { type: "text/javascript" })));
  const waiting = new Map();
  let last = 0;
  worker.onmessage = ({ data }) => {
    if ("progress" in data) return void (find("progress").value = data.progress);
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if ("error" in data) reject(new Error(data.error));
    else resolve(data.answer);
  };
  const ask = (task, more = {}, transfer = []) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, task, ...more }, transfer);
    });

  function bytes(id) {
    const text = atob(find(id).textContent);
    find(id).textContent = "";
    return Uint8Array.from(text, (c) => c.charCodeAt(0)).buffer;
  }

  function say(text, wrong = false) {
    find("status").textContent = text;
    find("status").classList.toggle("wrong", wrong);
  }

  const buttons = ["choose", "record", "example"].map(find);
  const ready = (yes) => buttons.forEach((button) => (button.disabled = !yes));

  // --- a sound in, the answer out ---

  async function samplesOf(blob) {
    // A context of the detector's rate resamples while it decodes.
    const context = new OfflineAudioContext(1, 1, info.rate);
    const audio = await context.decodeAudioData(await blob.arrayBuffer()).catch(() => {
      throw new Error("this browser cannot decode it");
    });
    const mono = new Float32Array(audio.length);
    for (let channel = 0; channel < audio.numberOfChannels; channel++) {
      audio.getChannelData(channel).forEach((value, i) => (mono[i] += value / audio.numberOfChannels));
    }
    return mono;
  }

  async function listen(blob, name) {
    ready(false);
    find("result").hidden = true;
    find("audio").pause();
    say(`Listening to ${name}…`);
    find("progress").value = 0;
    find("progress").hidden = false;
    try {
      const samples = await samplesOf(blob);
      const duration = samples.length / info.rate;
      const answer = await ask("detect", { samples }, [samples.buffer]);
      shown = { ...answer, duration, thresholds: info.classes.map((one) => one.threshold) };
      find("audio").src = URL.createObjectURL(blob);
      say(`${name}: ${duration.toFixed(1)} s of sound, heard in ${answer.seconds.toFixed(1)} s.`);
      find("result").hidden = false;
      draw();
      find("result").scrollIntoView({ behavior: "smooth", block: "nearest" });
    } catch (error) {
      say(`${name}: ${error.message}`, true);
    }
    find("progress").hidden = true;
    ready(true);
  }

  // --- pictures ---

  function fit(canvas) {
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * devicePixelRatio));
    return canvas.getContext("2d");
  }

  function drawSpectrogram() {
    const { frames, spectrogram } = shown;
    const bands = info.bands;
    const columns = Math.min(frames, 4096);
    const picture = new OffscreenCanvas(columns, bands);
    const pixels = new ImageData(columns, bands);
    const some = (_, i) => spectrogram[Math.floor((i * spectrogram.length) / 4096)];
    const sorted = Float32Array.from({ length: 4096 }, some).sort();
    const [low, high] = [sorted[200], sorted[4090]];
    for (let x = 0; x < columns; x++) {
      const from = Math.floor((x * frames) / columns);
      const to = Math.max(from + 1, Math.floor(((x + 1) * frames) / columns));
      for (let band = 0; band < bands; band++) {
        let loudest = -Infinity;
        for (let t = from; t < to; t++) loudest = Math.max(loudest, spectrogram[t * bands + band]);
        const level = Math.min(Math.max((loudest - low) / (high - low || 1), 0), 1) * (MAGMA.length - 1);
        const step = Math.min(Math.floor(level), MAGMA.length - 2);
        const at = 4 * ((bands - 1 - band) * columns + x);
        for (let c = 0; c < 3; c++) {
          pixels.data[at + c] = MAGMA[step][c] + (level - step) * (MAGMA[step + 1][c] - MAGMA[step][c]);
        }
        pixels.data[at + 3] = 255;
      }
    }
    picture.getContext("2d").putImageData(pixels, 0, 0);
    const canvas = find("spectrogram");
    fit(canvas).drawImage(picture, 0, 0, canvas.width, canvas.height);
  }

  function drawLane(index) {
    const { frames, probabilities, thresholds } = shown;
    const canvas = find(`lane${index}`);
    const context = fit(canvas);
    const { width, height } = canvas;
    const top = height * 0.06;
    const y = (p) => top + (1 - p) * (height * 0.84 - top);
    context.beginPath();
    context.moveTo(0, y(0));
    for (let x = 0; x < width; x++) {
      const from = Math.floor((x * frames) / width);
      const to = Math.max(from + 1, Math.floor(((x + 1) * frames) / width));
      let best = 0;
      for (let t = from; t < to; t++) best = Math.max(best, probabilities[t * info.classes.length + index]);
      context.lineTo(x, y(best));
    }
    context.lineTo(width, y(0));
    context.fillStyle = colour(index) + "55";
    context.fill();
    context.strokeStyle = colour(index);
    context.lineWidth = 1.5 * devicePixelRatio;
    context.stroke();
    context.beginPath();
    context.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    context.strokeStyle = getComputedStyle(document.body).color;
    context.globalAlpha = 0.6;
    context.lineWidth = devicePixelRatio;
    context.moveTo(0, y(thresholds[index]));
    context.lineTo(width, y(thresholds[index]));
    context.stroke();
  }

  const percent = (time) => `${(100 * time) / shown.duration}%`;

  function drawRuler() {
    const room = find("ruler").clientWidth / shown.duration;
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600].find((s) => s * room >= 60) || 7200;
    const ticks = [];
    for (let i = 0; i * step <= shown.duration; i++) {
      const tick = document.createElement("span");
      tick.style.left = percent(i * step);
      tick.className = (i + 0.5) * step > shown.duration ? "end" : "";
      tick.textContent = step < 1 ? `${(i * step).toFixed(1)} s` : `${i * step} s`;
      ticks.push(tick);
    }
    find("ruler").replaceChildren(...ticks);
  }

  function drawEvents() {
    document.querySelectorAll(".box").forEach((box) => box.remove());
    const rows = shown.events.map((event) => {
      const box = document.createElement("div");
      box.className = "box";
      box.style.left = percent(event.onset);
      box.style.width = percent(event.offset - event.onset);
      box.style.setProperty("--colour", colour(event.index));
      find(`lane${event.index}`).parentElement.append(box);
      const row = document.createElement("tr");
      const times = [event.onset, event.offset].map((time) => `${time.toFixed(2)} s`);
      [event.label, ...times, event.score.toFixed(3)].forEach((text, i) => {
        const cell = row.insertCell();
        if (i) cell.className = "number";
        cell.append(text);
      });
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.setProperty("--colour", colour(event.index));
      row.cells[0].prepend(swatch);
      return row;
    });
    find("events").tBodies[0].replaceChildren(...rows);
    find("events").hidden = rows.length === 0;
    find("none").hidden = rows.length > 0;
  }

  function draw() {
    drawSpectrogram();
    info.classes.forEach((_, index) => {
      find(`threshold${index}`).value = shown.thresholds[index];
      drawLane(index);
    });
    drawRuler();
    drawEvents();
    moveCursor();
  }

  function makeLanes() {
    for (const [index, one] of info.classes.entries()) {
      const axis = document.createElement("div");
      axis.className = "axis";
      axis.style.setProperty("--colour", colour(index));
      const name = document.createElement("b");
      name.append(Object.assign(document.createElement("span"), { className: "swatch" }), one.name);
      const note = document.createElement("small");
      const peak = one.score > 0 ? `, with a peak of ${one.score.toFixed(2)}` : "";
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.01, id: `threshold${index}` });
      slider.value = one.threshold;
      slider.setAttribute("aria-label", `Threshold of ${one.name}`);
      const label = () => (note.textContent = `threshold ${Number(slider.value).toFixed(2)}${peak}`);
      slider.addEventListener("input", async () => {
        label();
        shown.thresholds[index] = Number(slider.value);
        drawLane(index);
        shown.events = (await ask("decide", { index, threshold: Number(slider.value) })).events;
        drawEvents();
      });
      label();
      axis.append(name, slider, note);
      const track = document.createElement("div");
      track.className = "track";
      track.append(Object.assign(document.createElement("canvas"), { id: `lane${index}` }));
      find("lanes").append(axis, track);
    }
  }

  // --- playing ---

  const audio = find("audio");
  function moveCursor() {
    if (!shown) return;
    const [plot, track] = [find("plot"), find("spectrogram")].map((part) => part.getBoundingClientRect());
    find("cursor").style.left = `${track.left - plot.left + (audio.currentTime / shown.duration) * track.width}px`;
    find("time").textContent = `${audio.currentTime.toFixed(2)} of ${shown.duration.toFixed(2)} s`;
    if (!audio.paused) requestAnimationFrame(moveCursor);
  }
  function label() {
    find("play").firstElementChild.textContent = audio.paused ? "▶" : "❚❚";
    find("play").lastElementChild.textContent = audio.paused ? "Play" : "Pause";
    moveCursor();
  }
  for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, label);
  audio.addEventListener("seeked", moveCursor);
  find("play").addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
  find("plot").addEventListener("click", (event) => {
    const track = find("spectrogram").getBoundingClientRect();
    if (event.clientX < track.left) return;
    audio.currentTime = ((event.clientX - track.left) / track.width) * shown.duration;
  });

  // --- choosing, dropping, recording ---

  find("choose").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", () => {
    const [file] = find("file").files;
    find("file").value = "";
    if (file) listen(file, file.name);
  });
  const example = new Blob([bytes("recording")]);
  find("example").addEventListener("click", () => listen(example, "the example"));
  addEventListener("dragover", (event) => (event.preventDefault(), document.body.classList.add("dropping")));
  addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file && !find("choose").disabled) listen(file, file.name);
  });

  let recorder = null;
  find("record").addEventListener("click", async () => {
    if (recorder) return recorder.stop();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
      const parts = [];
      recorder = new MediaRecorder(stream);
      recorder.ondataavailable = (event) => parts.push(event.data);
      recorder.onstop = () => {
        stream.getTracks().forEach((track) => track.stop());
        const blob = new Blob(parts, { type: recorder.mimeType });
        recorder = null;
        find("record").classList.remove("recording");
        find("record").lastElementChild.textContent = "Record";
        listen(blob, "your recording");
      };
      recorder.start();
      find("record").classList.add("recording");
      find("record").lastElementChild.textContent = "Stop";
      say("Recording… press Stop, and the network listens to it.");
    } catch (error) {
      recorder = null;
      say(`The microphone cannot be used: ${error.message}`, true);
    }
  });

  let resizing = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(resizing);
    resizing = requestAnimationFrame(() => shown && draw());
  });

  const [wasm, weights] = [bytes("wasm"), bytes("weights")];
  ask("open", { wasm, weights }, [wasm, weights]).then(
    (answer) => {
      info = answer.info;
      const names = info.classes.map((one) => one.name);
      find("names").textContent = names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0];
      makeLanes();
      ready(true);
      say("Ready.");
    },
    (error) => say(`The network cannot run in this browser: ${error.message}`, true),
  );
})();
