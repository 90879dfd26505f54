// One picture at a time: send its bytes, keep the answer, draw; the threshold only draws again.
const find = (id) => document.getElementById(id);
const BOX = "#50dc3c";
const INK = "#141414";
const POINTS = ["#ff3c3c", "#28aaff", "#ffd700", "#eb5aeb", "#3cebff"];
const state = { bytes: null, bitmap: null, found: null, number: 0, largest: Infinity };

function chosen() {
  const lowest = Number(find("threshold").value);
  return state.found ? state.found.faces.filter((face) => face.score >= lowest) : [];
}

function draw() {
  find("value").textContent = Number(find("threshold").value).toFixed(2);
  if (!state.bitmap) return;
  const { width, height } = state.bitmap;
  const canvas = find("canvas");
  Object.assign(canvas, { width, height, hidden: false });
  find("invitation").hidden = true;
  find("stage").classList.add("filled");
  const pen = canvas.getContext("2d");
  pen.drawImage(state.bitmap, 0, 0);
  const faces = chosen();
  const unit = Math.max(1, Math.min(width, height) / 500);
  if (find("blur").checked) for (const face of faces) blurFace(pen, face);
  for (const face of [...faces].reverse()) drawFace(pen, face, unit);
  if (state.found) {
    const more = state.found.faces.length - faces.length;
    say(`${faces.length} ${faces.length === 1 ? "face" : "faces"}, ${more} more below the threshold. ` +
        `${width} x ${height} pixels, ${state.found.time_ms} ms.`);
    find("stage").dataset.faces = faces.length;
  }
  find("save").disabled = find("crops").disabled = !state.found;
}

// A part of the picture alone, as mmdet.deploy.align crops it: whole pixels inside, and a margin.
function crop(face, margin, width, height) {
  const [x1, y1, x2, y2] = face.bbox;
  const more = margin * Math.max(x2 - x1, y2 - y1);
  const left = Math.max(Math.floor(x1 - more), 0), top = Math.max(Math.floor(y1 - more), 0);
  const wide = Math.max(Math.min(Math.ceil(x2 + more), state.bitmap.width) - left, 1);
  const tall = Math.max(Math.min(Math.ceil(y2 + more), state.bitmap.height) - top, 1);
  const part = new OffscreenCanvas(width ?? wide, height ?? tall);
  part.getContext("2d").drawImage(state.bitmap, left, top, wide, tall, 0, 0, part.width, part.height);
  return { part, left, top, wide, tall };
}

function blurFace(pen, face) {
  const { part, left, top, wide, tall } = crop(face, 0.1, 8, 8);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(part, left, top, wide, tall);
  pen.imageSmoothingEnabled = true;
}

function download(name, address) {
  Object.assign(document.createElement("a"), { download: name, href: address }).click();
}

async function saveCrops() {
  for (const [index, face] of chosen().entries()) {
    const address = URL.createObjectURL(await crop(face, 0).part.convertToBlob());
    download(`face_${index}.png`, address);
    URL.revokeObjectURL(address);
  }
}

function drawFace(pen, face, unit) {
  const [x1, y1, x2, y2] = face.bbox;
  const thin = Math.min(x2 - x1, y2 - y1) < 24 * unit;
  for (const [color, width] of [[INK, thin ? 2.5 : 4], [BOX, thin ? 1.2 : 2.2]]) {  // visible on any ground
    pen.lineWidth = width * unit;
    pen.strokeStyle = color;
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  if (find("points").checked && face.kps) {
    const radius = Math.max(0.8 * unit, (x2 - x1) / 32);
    face.kps.forEach(([x, y], index) => {
      for (const [color, size] of [[INK, thin ? 0 : 1.35], [POINTS[index % POINTS.length], 1]]) {
        pen.fillStyle = color;
        pen.beginPath();
        pen.arc(x, y, size * radius, 0, 2 * Math.PI);
        pen.fill();
      }
    });
  }
  const text = (face.class ? `${face.class} ` : "") + face.score.toFixed(2);
  pen.font = `600 ${13 * unit}px system-ui, sans-serif`;
  const wide = pen.measureText(text).width + 6 * unit;
  if (!find("scores").checked || wide > 1.25 * (x2 - x1)) return;
  const tall = 17 * unit;
  const top = y1 - tall < 0 ? y1 : y1 - tall;
  pen.fillStyle = BOX;
  pen.fillRect(x1 - unit, top, wide, tall);
  pen.fillStyle = INK;
  pen.fillText(text, x1 + 2 * unit, top + 13 * unit);
}

function say(text, isError = false) {
  find("summary").textContent = text;
  find("summary").classList.toggle("error", isError);
}

// While an answer is awaited a newer picture may come; then the older answer is dropped.
async function detect() {
  const number = ++state.number;
  find("stage").classList.add("busy");
  delete document.body.dataset.state;
  say("Looking ...");
  try {
    if (state.bytes.size > state.largest) {
      throw new Error(`The picture is too large: at most ${state.largest / 2 ** 20} MiB.`);
    }
    const query = find("two_scale").checked ? "" : "?two_scale=0";
    const answer = await fetch(`detect${query}`, { method: "POST", body: state.bytes });
    const content = await answer.json();
    if (number !== state.number) return;
    if (!answer.ok) throw new Error(content.error);
    state.found = content;
    draw();
    document.body.dataset.state = "done";
  } catch (error) {
    if (number !== state.number) return;
    say(error.message, true);
    document.body.dataset.state = "error";
  } finally {
    if (number === state.number) find("stage").classList.remove("busy");
  }
}

async function show(bytes) {
  if (!bytes) return;
  Object.assign(state, { bytes, found: null, bitmap: null });
  try {
    state.bitmap = await createImageBitmap(bytes);  // turned upright as the server turns it
    draw();
  } catch {
    find("canvas").hidden = true;  // the server says what is wrong, or the browser does not know the format
  }
  await detect();
}

async function showExample(name) {
  const answer = await fetch(`examples/${encodeURIComponent(name)}`);
  if (answer.ok) await show(await answer.blob());
  else say(`${name}: this example is not there any more.`, true);
}

function listen() {
  for (const id of ["threshold", "points", "scores", "blur"]) find(id).addEventListener("input", draw);
  find("two_scale").addEventListener("input", () => state.bytes && detect());
  for (const id of ["file", "another"]) {
    find(id).addEventListener("change", (event) => show(event.target.files[0]));
  }
  const stage = find("stage");
  for (const [name, isOver] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      stage.classList.toggle("over", isOver);
      if (name === "drop") show(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", (event) => show(event.clipboardData.files[0]));
  find("save").addEventListener("click", () => download("faces.png", find("canvas").toDataURL("image/png")));
  find("crops").addEventListener("click", saveCrops);
}

// ?example=NAME&threshold=T opens an example at once: a link that shows something.
async function start() {
  listen();  // first, so that nothing below can leave a page that does not react
  const about = await (await fetch("about")).json();
  find("about").textContent = `${about.model}, input ${about.input}, ${about.provider}`;
  const query = new URLSearchParams(location.search);
  state.largest = about.largest_bytes;
  find("threshold").min = about.lowest;
  find("threshold").value = query.get("threshold") ?? about.threshold;
  for (const name of about.examples) {
    const image = new Image();
    Object.assign(image, { src: `examples/${encodeURIComponent(name)}`, alt: name, title: name, loading: "lazy" });
    image.addEventListener("click", () => showExample(name));
    find("examples").append(image);
  }
  draw();
  if (query.has("example")) await showExample(query.get("example"));
}

start();
