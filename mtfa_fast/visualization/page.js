"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const main = document.querySelector("main");
  const [start, end, left, column] = ["start", "end", "left", "column"].map((name) => Number(main.dataset[name]));
  const span = end - start;
  const audio = find("audio");
  const track = find("track");
  const scroll = find("scroll");
  const spectrogram = track.querySelector(".spectrogram");
  const bands = [...document.querySelectorAll(".axis .spectrogram span")].map((tick) => [
    parseFloat(tick.style.bottom),
    Number(tick.dataset.hz),
  ]);
  const lanes = [...track.querySelectorAll("polygon")].map((shape) => ({
    points: shape.points,
    shown: find(shape.dataset.value),
  }));
  const onsets = [...new Set([...track.querySelectorAll(".event")].map((box) => Number(box.dataset.onset)))];
  onsets.sort((a, b) => a - b);
  let now = start; // without audio; with audio the audio knows
  let stop = null; // where playing one event ends

  const inside = (time) => Math.min(Math.max(time, start), end);
  const position = () => (audio ? inside(start + audio.currentTime) : now);
  const percent = (time) => `${((time - start) / span) * 100}%`;

  // --- what stands at a point ---

  function hertz(height) {
    const above = bands.findIndex(([at]) => at >= height);
    if (above < 1) return null;
    const [[low, lowHz], [high, highHz]] = [bands[above - 1], bands[above]];
    return lowHz * (highHz / lowHz) ** ((height - low) / (high - low));
  }

  function showValues(time) {
    for (const lane of lanes) {
      const last = lane.points.numberOfItems - 3; // the first and last point close the shape
      const index = Math.min(Math.max(Math.floor((time - left) / column), 0), last - 1);
      lane.shown.textContent = (1 - lane.points.getItem(index + 2).y / 1000).toFixed(3);
    }
  }

  function draw() {
    const time = position();
    find("cursor").style.left = percent(time);
    find("time").textContent = `${time.toFixed(2)} of ${end.toFixed(2)} s`;
    find("seek").value = time;
    find("seek").setAttribute("aria-valuetext", `${time.toFixed(2)} seconds`);
    if (find("hover").hidden) showValues(time);
  }

  function reveal() {
    const at = ((position() - start) / span) * track.offsetWidth;
    if (at < scroll.scrollLeft || at > scroll.scrollLeft + scroll.clientWidth) {
      scroll.scrollLeft = at - scroll.clientWidth / 4;
    }
  }

  // --- moving ---

  function go(time) {
    stop = null;
    if (audio) audio.currentTime = inside(time) - start;
    else now = inside(time);
    draw();
    reveal();
  }

  function goToEvent(step) {
    const time = position();
    const next = step > 0 ? onsets.find((t) => t > time + 0.01) : onsets.findLast((t) => t < time - 0.01);
    if (next !== undefined) go(next);
  }

  function frame() {
    if (stop !== null && position() >= stop) audio.pause();
    draw();
    if (audio.paused) return;
    reveal();
    requestAnimationFrame(frame);
  }

  function toggle() {
    if (!audio) return;
    if (audio.paused) {
      if (audio.ended) audio.currentTime = 0;
      stop = null;
      audio.play();
    } else audio.pause();
  }

  if (audio) {
    const play = find("play");
    const label = (sign, word) => {
      play.firstElementChild.textContent = sign;
      play.lastChild.textContent = ` ${word}`;
    };
    play.addEventListener("click", toggle);
    audio.addEventListener("play", () => (label("❚❚", "Pause"), requestAnimationFrame(frame)));
    audio.addEventListener("pause", () => (label("▶", "Play"), draw()));
    audio.addEventListener("seeked", draw);
    audio.addEventListener("error", () => {
      main.classList.add("silent");
      find("trouble").hidden = false;
    });
    find("volume").addEventListener("input", (event) => (audio.volume = Number(event.target.value)));
    find("speed").addEventListener("change", (event) => (audio.playbackRate = Number(event.target.value)));
    for (const button of document.querySelectorAll(".hear")) {
      button.addEventListener("click", () => {
        go(Number(button.dataset.from));
        stop = Number(button.dataset.to);
        audio.play();
      });
    }
  }
  find("seek").addEventListener("input", (event) => go(Number(event.target.value)));

  // --- pointer: click or drag goes there, hovering reads values ---

  const timeAt = (event) => {
    const box = track.getBoundingClientRect();
    return inside(start + ((event.clientX - box.left) / box.width) * span);
  };
  track.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType !== "mouse") return;
    track.setPointerCapture(event.pointerId);
    go(timeAt(event));
  });
  track.addEventListener("click", (event) => {
    if (event.pointerType !== "mouse") go(timeAt(event)); // a finger that moves scrolls instead
  });
  track.addEventListener("pointermove", (event) => {
    const time = timeAt(event);
    if (event.buttons & 1 && event.pointerType === "mouse") go(time);
    const box = spectrogram.getBoundingClientRect();
    const hz = hertz((1 - (event.clientY - box.top) / box.height) * 100);
    const hover = find("hover");
    hover.hidden = false;
    hover.style.left = percent(time);
    hover.classList.toggle("flip", event.clientX > scroll.getBoundingClientRect().right - 160);
    find("point").textContent = `${time.toFixed(2)} s` + (hz === null ? "" : `, ${Math.round(hz)} Hz`);
    showValues(time);
  });
  track.addEventListener("pointerleave", () => ((find("hover").hidden = true), draw()));

  // --- keys: a control that has the focus keeps its own ---

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const kind = event.target.tagName;
    if (kind === "SELECT" || (kind === "INPUT" && event.key !== " ") || (kind === "BUTTON" && event.key === " ")) return;
    if (event.target.type === "checkbox") return;
    const far = event.shiftKey ? 5 : 0.5;
    const action = {
      " ": toggle,
      ArrowLeft: () => go(position() - far),
      ArrowRight: () => go(position() + far),
      Home: () => go(start),
      End: () => go(end),
      n: () => goToEvent(1),
      p: () => goToEvent(-1),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  // --- layers and zoom ---

  function layers() {
    const mask = find("mask");
    find("spectrogram").style.visibility = find("show-spectrogram").checked ? "visible" : "hidden";
    if (!mask) return;
    for (const image of track.querySelectorAll(".mask")) {
      image.hidden = !mask.checked || image.dataset.scale !== find("scale").value;
      image.style.opacity = find("opacity").value;
    }
  }
  for (const id of ["show-spectrogram", "mask", "scale", "opacity"]) find(id)?.addEventListener("input", layers);

  function ruler() {
    const room = track.offsetWidth / span; // pixels a second
    let step = 10 ** Math.ceil(Math.log10(64 / room));
    if ((step / 5) * room >= 64) step /= 5;
    else if ((step / 2) * room >= 64) step /= 2;
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    // Only what can be seen: an hour zoomed in has more ticks than a browser draws in time.
    const first = Math.max(start, start + scroll.scrollLeft / room);
    const last = Math.min(end, first + scroll.clientWidth / room);
    track.querySelectorAll(".grid").forEach((line) => line.remove());
    find("ruler").replaceChildren();
    for (let count = Math.ceil(first / step - 1e-9); count * step <= last + 1e-9; count++) {
      const text = document.createElement("span");
      const line = document.createElement("div");
      text.className = "tick";
      line.className = "grid";
      text.style.left = line.style.left = percent(count * step);
      text.textContent = (count * step).toFixed(digits);
      if (count * step < start + 8 / room) text.style.transform = "none"; // the outermost are kept inside
      if (count * step > end - 8 / room) text.style.transform = "translateX(-100%)";
      find("ruler").append(text);
      track.append(line);
    }
  }

  find("zoom").addEventListener("input", (event) => {
    const times = 2 ** Number(event.target.value);
    event.target.setAttribute("aria-valuetext", `${times.toFixed(1)} times`);
    track.style.width = `${times * 100}%`;
    scroll.scrollLeft = ((position() - start) / span) * track.offsetWidth - scroll.clientWidth / 2;
    ruler();
  });
  window.addEventListener("resize", ruler);
  scroll.addEventListener("scroll", ruler);

  layers();
  ruler();
  draw();
  document.documentElement.dataset.ready = "yes";
})();
