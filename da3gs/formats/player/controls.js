// Mouse, touch and keys. Calls `changed` whenever the camera moved, `act` with the name of a command.
const SPEEDS = { KeyW: [0, 0, 1], KeyS: [0, 0, -1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyQ: [0, 1, 0], KeyE: [0, -1, 0] };
const TURNS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const COMMANDS = {
  KeyO: "mode", KeyL: "level", KeyB: "nextBackground", KeyH: "hide", Home: "home", KeyN: "next", KeyP: "previous",
  KeyF: "fullscreen", KeyM: "measure", KeyV: "vr", Slash: "help", Escape: "close",
};

class Controls {
  constructor(canvas, camera, { changed, act, picked, clicked }) {
    Object.assign(this, { canvas, camera, changed, act, picked, clicked });
    this.orbiting = true;
    this.pointers = new Map();
    this.keys = new Set();
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", (event) => this.picked(...this.at(event)));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("keyup", (event) => this.keys.delete(event.code));
    addEventListener("blur", () => this.keys.clear());
  }

  // The pixel of the canvas where an event happened.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [sx, sy] = [this.canvas.width / box.width, this.canvas.height / box.height];
    return [(event.clientX - box.left) * sx, (event.clientY - box.top) * sy];
  }

  lens() {
    return this.camera.lens(this.canvas.width, this.canvas.height);
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { at: this.at(event), started: this.at(event), time: event.timeStamp });
    this.act("grabbed");
  }

  up(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!pointer || event.type !== "pointerup" || this.pointers.size) return;
    const far = Math.hypot(pointer.at[0] - pointer.started[0], pointer.at[1] - pointer.started[1]) > 12;
    if (far || event.timeStamp - pointer.time > 300) return;
    this.clicked(...pointer.at);
    if (event.pointerType !== "touch") return;
    if (event.timeStamp - (this.tapped ?? -1e9) < 350) this.picked(...pointer.at);
    this.tapped = event.timeStamp;
  }

  moved(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) return;
    const before = [...this.pointers.values()].map((each) => each.at);
    const [x, y] = this.at(event);
    const [dx, dy] = [x - pointer.at[0], y - pointer.at[1]];
    pointer.at = [x, y];
    const now = [...this.pointers.values()].map((each) => each.at);
    if (now.length > 1) {
      const apart = (points) => Math.hypot(points[0][0] - points[1][0], points[0][1] - points[1][1]) || 1;
      this.pan(dx / now.length, dy / now.length);
      this.camera.approach(apart(before) / apart(now), this.orbiting);
    } else if (event.buttons & 6 || event.shiftKey) {
      this.pan(dx, dy);
    } else {
      this.turn(dx, dy);
    }
    this.changed();
  }

  // A drag of so many pixels: the world follows the pointer when looking round, the camera circles when orbiting.
  turn(dx, dy) {
    const angle = this.orbiting ? Math.PI / Math.min(this.canvas.width, this.canvas.height) : 1 / this.lens().fy;
    const sense = this.orbiting ? -1 : 1;
    this.camera.look(sense * dx * angle, sense * dy * angle, this.orbiting);
  }

  pan(dx, dy) {
    const { fx, fy } = this.lens();
    this.camera.move((-dx * this.camera.distance) / fx, (-dy * this.camera.distance) / fy, 0);
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 400 : 1;
    this.camera.approach(Math.exp(Math.max(-300, Math.min(300, event.deltaY * lines)) * 0.0015), this.orbiting);
    this.act("grabbed");
    this.changed();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const typing = event.target instanceof HTMLSelectElement;
    if (!typing && (event.code in SPEEDS || event.code in TURNS)) {
      this.keys.add(event.code);
      if (event.shiftKey) this.fast = true;
      event.preventDefault();
      this.act("grabbed");
      this.changed();
    } else if (event.code in COMMANDS && !event.repeat) {
      this.act(COMMANDS[event.code]);
    }
    this.fast = event.shiftKey;
  }

  // What held keys do in so many seconds; whether they did anything.
  advance(seconds) {
    const speed = this.camera.distance * (this.fast ? 2 : 0.6) * seconds;
    for (const code of this.keys) {
      if (code in SPEEDS) this.camera.move(...SPEEDS[code].map((part) => part * speed));
      if (code in TURNS) {
        const [yaw, pitch] = TURNS[code];
        const sense = this.orbiting ? 1 : -1;
        this.camera.look(sense * yaw * seconds, pitch * seconds * (this.orbiting ? -1 : 1), this.orbiting);
      }
    }
    return this.keys.size > 0;
  }
}
