"use strict";
// Announces each file, waits for the word to send it, sends it in pieces. Names appear as text only, never as markup.
const PIECE = 1 << 20;
const MOST_WAITING = 8 << 20;
const at = (id) => document.getElementById(id);
const waiting = [];
let socket, limits, current = null, total = 0, files = 0, busy = false, done = false;

function say(text, bad = false) {
  at("said").textContent = text;
  at("said").className = bad ? "bad" : "";
}

function listed(name, bad) {
  const row = document.createElement("li");
  row.textContent = name;
  if (bad) row.className = "bad";
  at("list").append(row);
  row.scrollIntoView({ block: "nearest" });
}

function refresh() {
  const sending = current !== null || waiting.length > 0;
  at("start").disabled = busy || sending || files === 0;
  at("cancel").disabled = !(busy || sending || files > 0);
  at("sum").textContent = files ? `${files} files, ${(total / 1e6).toFixed(1)} MB` + (waiting.length ? `; ${waiting.length} to go` : "") : "";
}

function next() {
  if (current === null && waiting.length && socket.readyState === WebSocket.OPEN && !busy) {
    current = waiting.shift();
    socket.send(JSON.stringify({ do: "file", name: current.name, size: current.size }));
  }
  refresh();
}

async function transfer(file) {
  for (let start = 0; start < file.size; start += PIECE) {
    const piece = await file.slice(start, start + PIECE).arrayBuffer();
    while (socket.bufferedAmount > MOST_WAITING) await new Promise((go) => setTimeout(go, 20));
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(piece);
    bar(Math.min(start + PIECE, file.size), file.size);
  }
}

function bar(value, most) {
  at("bar").hidden = false;
  if (most > 0) { at("bar").max = most; at("bar").value = value; } else at("bar").removeAttribute("value");
}

function add(chosen) {
  const sorted = [...chosen].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  const room = limits ? limits.files - files - waiting.length : 0;
  if (sorted.length > room) {
    say(`${sorted.length} files are too many; at most ${limits ? limits.files : 0} in all`, true);
    return;
  }
  waiting.push(...sorted);
  next();
}

async function walk(entry, found) {
  if (found.length > 20000) return;
  if (entry.isFile) found.push(await new Promise((got, no) => entry.file(got, no)));
  else if (entry.isDirectory) {
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((got, no) => reader.readEntries(got, no));
      if (!some.length) break;
      for (const one of some) await walk(one, found);
    }
  }
}

function options(id, names) {
  at(id).replaceChildren(...names.map((name) => {
    const option = document.createElement("option");
    option.value = option.textContent = name;
    return option;
  }));
}

const heard = {
  ready(message) {
    limits = message;
    options("model", message.models);
    options("poses", message.poses);
    at("limits").textContent = `at most ${message.files} files, ${message.megabytes} MB, ${message.minutes} minutes of video`;
    at("files").accept = message.suffixes.join(",");
    say("Ready.");
  },
  async send() { await transfer(current); },
  got(message) {
    listed(message.name, false);
    current = null;
    files = message.files;
    total = message.bytes;
    at("bar").hidden = true;
    next();
  },
  refused(message) {
    if (current !== null) {
      listed(`${current.name}: ${message.message}`, true);
      current = null;
    }
    busy = false;
    say(message.message, true);
    next();
  },
  waiting(message) { say(message.stage); bar(0, 0); },
  working(message) { say(`${message.stage} ...`); bar(message.done, message.total); },
  done(message) {
    busy = false;
    done = true;
    at("bar").hidden = true;
    at("open").href = new URL(message.path + location.search, location.href).href;
    at("open").hidden = false;
    say(`${message.splats} splats from ${message.photos} photos.`);
    at("passed").hidden = message.passed.length === 0;
    at("lines").replaceChildren(...message.passed.map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
    at("open").target = "_blank";
    at("open").focus();
    refresh();
  },
  failed(message) { busy = false; at("bar").hidden = true; say(message.message, true); refresh(); },
  cancelled() {
    const job = busy;
    busy = false;
    at("bar").hidden = true;
    if (!job) { files = total = 0; at("list").replaceChildren(); }
    say("Cancelled.");
    refresh();
  },
};

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`);
  socket.onmessage = (event) => { const message = JSON.parse(event.data); heard[message.state]?.(message); };
  socket.onclose = () => {
    busy = false;
    current = null;
    waiting.length = files = total = 0;
    refresh();
    if (!done) say("The connection to da3gs is gone. Load this page again to start over.", true);
  };
}

at("files").onchange = () => { add(at("files").files); at("files").value = ""; };
at("start").onclick = () => {
  busy = true;
  at("open").hidden = true;
  say("Starting ...");
  bar(0, 0);
  refresh();
  socket.send(JSON.stringify({ do: "start", model: at("model").value, poses: at("poses").value }));
};
at("cancel").onclick = () => {
  waiting.length = 0;
  if (current !== null) { socket.close(); return; }
  socket.send(JSON.stringify({ do: "cancel" }));
};
for (const name of ["dragenter", "dragover"]) addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
for (const name of ["dragleave", "drop"]) addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.remove("over"); });
addEventListener("drop", async (event) => {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = [];
  for (const entry of entries) await walk(entry, found);
  add(found.length ? found : event.dataTransfer.files);
});
connect();
