// The page: what its parts do together.
const find = (id) => document.getElementById(id);
const BACKGROUNDS = [[0, 0, 0], [0.5, 0.5, 0.5], [1, 1, 1]];
const STILL = 200; // milliseconds after which a picture is drawn in full again
const SLOW = 45; // milliseconds a frame, above which moving pictures get smaller

class Page {
  constructor(scene, call, drawing) {
    Object.assign(this, { scene, call, drawing });
    this.canvas = drawing.canvas;
    const asked = Number.parseInt(location.hash.slice(1), 10);
    this.at = asked >= 1 && asked <= scene.views.length ? asked - 1 : 0;
    this.camera = new Camera(scene.views[this.at], scene.up);
    this.controls = new Controls(this.canvas, this.camera, {
      changed: () => this.change(),
      act: (name) => this[name](),
      picked: (x, y) => this.ruler.on || this.pick(x, y),
      clicked: (x, y) => this.ruler.on && this.mark(x, y),
    });
    this.ruler = new Ruler(scene.unit);
    this.immersion = new Immersion(this);
    this.background = 0;
    this.share = 1; // of the canvas's pixels a side, while moving
    this.changedAt = 0;
    this.sorted = this.sorting = "";
    this.flight = null;
    this.bound = (time) => this.frame(time);
    for (const button of document.querySelectorAll("button")) {
      button.addEventListener("click", () => this[button.dataset.act]());
    }
    new ResizeObserver(() => this.fit()).observe(this.canvas);
    this.canvas.addEventListener("webglcontextlost", () => fail("the graphics card was taken away; load the page again"));
    const { views } = scene;
    views.forEach((view, index) => find("views").append(new Option(view.name, index)));
    find("views").addEventListener("change", () => this.go(Number(find("views").value)));
    find("tour").hidden = views.length < 2;
    find("views").value = this.at;
    this.fit();
  }

  fit() {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.fresh = true;
    this.wake();
  }

  change() {
    this.changedAt = performance.now();
    this.fresh = true;
    this.wake();
  }

  wake() {
    if (this.immersion?.session) return; // which has frames of its own
    this.asked ??= requestAnimationFrame(this.bound);
  }

  frame(time) {
    this.asked = null;
    const passed = Math.min(250, time - (this.last ?? time));
    this.last = time;
    if (this.controls.advance(passed / 1000) || this.fly(time)) this.change();
    const moving = performance.now() - this.changedAt < STILL && this.changedAt > 0;
    if (moving && passed > 0) {
      const factor = passed > SLOW ? 0.85 : passed < SLOW / 2 ? 1.05 : 1;
      this.share = Math.max(0.3, Math.min(1, this.share * factor));
    }
    this.sort(this.camera);
    const share = moving ? this.share : 1;
    if (this.fresh || this.drawnShare !== share) {
      const { width, height } = this.canvas;
      const lens = this.camera.lens(width, height);
      this.drawing.draw(this.camera, lens, BACKGROUNDS[this.background], share);
      this.ruler.draw(this.camera, lens, this.canvas);
      this.fresh = false;
      this.drawnShare = share;
    }
    const settled = !moving && this.sorted === this.key(this.camera);
    document.documentElement.dataset.state = settled ? "settled" : "moving";
    if (moving) this.wake();
    else this.last = null;
  }

  key(camera) {
    return camera.row(camera.forward).join();
  }

  // Ask for another order where the camera is not where the last one was made for.
  sort(camera) {
    const key = this.key(camera);
    if (this.sorting || this.sorted === key) return;
    this.sorting = key;
    this.call("order", camera.row(camera.forward)).then((order) => {
      this.drawing.setOrder(order);
      this.sorted = this.sorting;
      this.sorting = "";
      this.fresh = true;
      this.wake();
    }, fail);
  }

  fly(time) {
    if (!this.flight) return false;
    this.flight.start ??= time;
    const t = this.flight.seconds ? Math.min(1, (time - this.flight.start) / 1000 / this.flight.seconds) : 1;
    this.camera.between(this.flight.from, this.flight.to, t * t * (3 - 2 * t));
    if (t >= 1) this.flight = null;
    return true;
  }

  flyTo(change) {
    const goal = Object.assign(Object.create(Camera.prototype), this.camera);
    change(goal);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.flight = { from: this.camera.pose(), to: goal.pose(), seconds: calm ? 0 : 0.7 };
    this.wake();
  }

  go(index) {
    const { views } = this.scene;
    this.at = (index + views.length) % views.length;
    find("views").value = this.at;
    this.flyTo((camera) => camera.stand(views[this.at]));
  }

  // The point of the scene at a pixel, to `use`; nothing where there is none.
  found(x, y, use) {
    const { eye } = this.camera;
    const direction = this.camera.ray(x, y, this.controls.lens());
    this.call("pick", eye, direction).then((distance) => {
      if (distance !== null) use(plus(eye, direction, distance));
    }, fail);
  }

  // An end of the ruler.
  mark(x, y) {
    this.found(x, y, (point) => {
      this.ruler.add(point);
      this.fresh = true;
      this.wake();
    });
  }

  // Turn round what was clicked.
  pick(x, y) {
    this.found(x, y, (point) => {
      this.flyTo((camera) => {
        const depth = dot(plus(point, eye, -1), camera.forward);
        camera.distance = Math.max(1e-6, depth);
        camera.eye = plus(point, camera.forward, -camera.distance);
      });
    });
  }

  grabbed() {
    this.flight = null;
    find("hint").hidden = true;
  }

  next() {
    this.go(this.at + 1);
  }

  previous() {
    this.go(this.at - 1);
  }

  home() {
    this.go(this.at);
  }

  mode() {
    this.controls.orbiting = !this.controls.orbiting;
    find("mode").textContent = this.controls.orbiting ? "Orbit" : "Fly";
  }

  level() {
    this.flyTo((camera) => camera.level());
  }

  hide() {
    document.body.classList.toggle("bare");
  }

  nextBackground() {
    this.background = (this.background + 1) % BACKGROUNDS.length;
    this.fresh = true;
    this.wake();
  }

  measure() {
    this.ruler.toggle();
    this.fresh = true;
    this.wake();
  }

  vr() {
    this.immersion.enter("vr").catch(complain);
  }

  ar() {
    this.immersion.enter("ar").catch(complain);
  }

  help() {
    find("help").hidden = !find("help").hidden;
  }

  close() {
    find("help").hidden = true;
  }

  fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen?.();
  }
}

function fail(reason) {
  document.documentElement.dataset.state = "failed";
  find("message").textContent = String(reason.message || reason);
  find("message").hidden = false;
}

// What failed without the page failing.
function complain(reason) {
  find("hint").textContent = String(reason.message || reason);
  find("hint").hidden = false;
}

// A picture of the splats, with the very bytes that are stored.
function decoded(bytes) {
  const picture = new Blob([bytes], { type: "image/webp" });
  return createImageBitmap(picture, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
}

async function start() {
  const scene = JSON.parse(find("scene").textContent);
  const drawing = new Drawing(find("canvas"));
  if (!globalThis.createImageBitmap) throw new Error("this browser is too old for this page; use one from 2023 or later");
  const call = startedEngine();
  const packed = find("splats");
  const { meta, files } = await call("unpack", packed.textContent.trim());
  packed.remove();
  const bytes = async (name) => drawing.pixels(await decoded(files[name]));
  const pixels = {};
  for (const part of ["means", "quats", "scales", "sh0"]) {
    pixels[part] = [];
    for (const name of meta[part].files) pixels[part].push(await bytes(name));
  }
  if (meta.shN) pixels.labels = await bytes(meta.shN.files[1]);
  const splats = await call("load", meta, pixels, drawing.textureWidth);
  drawing.load(splats, meta, meta.shN ? await decoded(files[meta.shN.files[0]]) : null);
  find("message").hidden = true;
  find("count").textContent = `${splats.count.toLocaleString()} splats`;
  new Page(scene, call, drawing);
}

start().catch(fail);
