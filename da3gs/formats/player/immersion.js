// The scene about one's head, or on one's table: WebXR, where the browser offers it.
const MODES = { vr: "immersive-vr", ar: "immersive-ar" };
const NEARNESS = 1.5; // metres to the middle of a scene whose unit is none
const WALK = 1.2; // metres a second
const SNAP = Math.PI / 6;

class Immersion {
  constructor(page) {
    this.page = page;
    this.session = null;
    for (const kind of Object.keys(MODES)) {
      navigator.xr?.isSessionSupported(MODES[kind]).then((offered) => (find(kind).hidden = !offered), () => {});
    }
  }

  async enter(kind) {
    const { drawing, camera, scene } = this.page;
    if (this.session || !navigator.xr) return;
    const session = await navigator.xr.requestSession(MODES[kind]);
    this.session = session;
    session.addEventListener("end", () => this.left());
    const { gl } = drawing;
    await gl.makeXRCompatible();
    this.layer = new XRWebGLLayer(session, gl, { alpha: true, antialias: false, depth: false, stencil: false });
    session.updateRenderState({ baseLayer: this.layer });
    this.space = await session.requestReferenceSpace("local");
    this.opaque = kind === "vr" ? 1 : 0;
    this.up = camera.up;
    this.scale = scene.unit === "metre" ? 1 : camera.distance / NEARNESS;
    this.placed = false;
    this.eye = [...camera.eye];
    const level = plus(camera.forward, this.up, -dot(camera.forward, this.up));
    this.ahead = unit(Math.hypot(...level) > 1e-3 ? level : camera.down);
    this.share = 1;
    this.last = null;
    session.requestAnimationFrame((time, frame) => this.frame(time, frame));
  }

  // Lay the scene out round the head: it stands where the page's camera stood, and looks where that looked, but level.
  place(m) {
    this.ahead = turned(this.ahead, this.up, Math.atan2(-m[8], m[10]));
    this.origin = plus(this.eye, this.way(m[12], m[13], m[14]), -this.scale);
    this.placed = true;
  }

  left() {
    this.session = null;
    this.page.change();
  }

  // A direction of the browser's space (x right, y up, z back) in the scene.
  way(x, y, z) {
    const right = cross(this.ahead, this.up);
    return plus(plus(plus([0, 0, 0], right, x), this.up, y), this.ahead, -z);
  }

  // The camera of a view: OpenCV's, in the scene.
  camera({ transform, projectionMatrix: p }, width, height) {
    const m = transform.matrix;
    const camera = Object.create(Camera.prototype);
    camera.right = this.way(m[0], m[1], m[2]);
    camera.down = this.way(-m[4], -m[5], -m[6]);
    camera.forward = this.way(-m[8], -m[9], -m[10]);
    camera.eye = plus(this.origin, this.way(m[12], m[13], m[14]), this.scale);
    const lens = {
      fx: (p[0] * width) / 2, fy: (p[5] * height) / 2,
      cx: ((1 - p[8]) * width) / 2, cy: ((1 + p[9]) * height) / 2,
    };
    return { camera, lens };
  }

  frame(time, frame) {
    if (!this.session) return;
    this.session.requestAnimationFrame((next, other) => this.frame(next, other));
    const passed = Math.min(250, time - (this.last ?? time));
    this.last = time;
    const pose = frame.getViewerPose(this.space);
    if (!pose) return;
    if (!this.placed) this.place(pose.transform.matrix);
    const head = this.camera({ transform: pose.transform, projectionMatrix: pose.views[0].projectionMatrix }, 2, 2).camera;
    this.walk(passed / 1000, head);
    this.page.sort(head);
    if (passed > 0) this.share = Math.max(0.3, Math.min(1, this.share * (passed > SLOW ? 0.9 : passed < SLOW / 2 ? 1.02 : 1)));
    const { drawing, background } = this.page;
    const shade = BACKGROUNDS[background].map((part) => part * this.opaque);
    for (const view of pose.views) {
      const { x, y, width, height } = this.layer.getViewport(view);
      const { camera, lens } = this.camera(view, width, height);
      drawing.view(camera.worldToCam(), camera.eye, lens, width, height, this.share);
      drawing.show(this.layer.framebuffer, [x, y, width, height], [...shade, this.opaque]);
    }
  }

  // Sticks: the right one turns by steps, any other walks where the head looks.
  walk(seconds, head) {
    for (const { gamepad, handedness } of this.session.inputSources) {
      const [x, y] = gamepad?.axes?.slice(-2) ?? [0, 0];
      if (handedness === "right") {
        if (Math.abs(x) > 0.7 && !this.turned) {
          this.ahead = turned(this.ahead, this.up, x > 0 ? -SNAP : SNAP);
          const away = plus(head.eye, this.origin, -1);
          this.origin = plus(head.eye, turned(away, this.up, x > 0 ? -SNAP : SNAP), -1);
        }
        this.turned = Math.abs(x) > 0.7;
      } else if (Math.hypot(x, y) > 0.15) {
        const step = WALK * this.scale * seconds;
        this.origin = plus(plus(this.origin, head.forward, -y * step), head.right, x * step);
      }
    }
  }
}
