// Where one stands. OpenCV's camera: x right, y down, z forward; the world is that of the splats.
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const plus = (a, b, factor = 1) => [a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]];
const unit = (a) => a.map((value) => value / (Math.hypot(...a) || 1));

function turned(v, axis, angle) {
  const [c, s, along] = [Math.cos(angle), Math.sin(angle), dot(v, axis) * (1 - Math.cos(angle))];
  const side = cross(axis, v);
  return [0, 1, 2].map((i) => v[i] * c + side[i] * s + axis[i] * along);
}

class Camera {
  constructor(view, up) {
    this.up = unit(up);
    this.stand(view);
  }

  // Go to a view: its rotation is a row-major camera-to-world matrix.
  stand(view) {
    const r = view.rotation;
    this.eye = [...view.position];
    [this.right, this.down, this.forward] = [0, 1, 2].map((i) => [r[i], r[3 + i], r[6 + i]]);
    this.distance = view.distance;
    this.view = view;
  }

  get target() {
    return plus(this.eye, this.forward, this.distance);
  }

  // What the canvas has to be drawn with so that the whole picture of the view is on it, and more where it is wider.
  lens(width, height) {
    const v = this.view;
    const factor = Math.min(width / v.width, height / v.height);
    return {
      fx: v.fx * factor,
      fy: v.fy * factor,
      cx: width / 2 + (v.cx - v.width / 2) * factor,
      cy: height / 2 + (v.cy - v.height / 2) * factor,
    };
  }

  row(axis) {
    return [...axis, -dot(axis, this.eye)];
  }

  worldToCam() {
    return [...this.row(this.right), ...this.row(this.down), ...this.row(this.forward), 0, 0, 0, 1];
  }

  // The direction in the world of a pixel of the canvas.
  ray(x, y, lens) {
    const side = plus([0, 0, 0], this.right, (x - lens.cx) / lens.fx);
    return unit(plus(plus(side, this.down, (y - lens.cy) / lens.fy), this.forward));
  }

  rotate(axis, angle) {
    for (const name of ["right", "down", "forward"]) this[name] = turned(this[name], axis, angle);
    this.forward = unit(this.forward);
    this.right = unit(plus(this.right, this.forward, -dot(this.right, this.forward)));
    this.down = cross(this.forward, this.right);
  }

  // Turn to the side and up, in radians, on the spot or round the target; never over the zenith.
  look(yaw, pitch, round) {
    const target = this.target;
    this.rotate(this.up, yaw);
    const height = Math.asin(Math.max(-1, Math.min(1, dot(this.forward, this.up))));
    const limit = 1.55;
    const wanted = Math.max(Math.min(-limit, height), Math.min(Math.max(limit, height), height + pitch));
    this.rotate(this.right, wanted - height);
    if (round) this.eye = plus(target, this.forward, -this.distance);
  }

  move(right, down, forward) {
    this.eye = plus(plus(plus(this.eye, this.right, right), this.down, down), this.forward, forward);
  }

  // Nearer to the target by a factor; when flying the target moves along.
  approach(factor, round) {
    const step = this.distance * (1 - factor);
    this.move(0, 0, step);
    if (round) this.distance = Math.max(1e-6, this.distance - step);
  }

  // The horizon level again.
  level() {
    const right = cross(this.forward, this.up);
    if (Math.hypot(...right) < 1e-4) return;
    this.right = unit(right);
    this.down = cross(this.forward, this.right);
  }

  pose() {
    const { eye, right, down, forward, distance, view } = this;
    return { eye, right, down, forward, distance, view };
  }

  // Between two poses, from 0 to 1: the eye in a straight line, the axes bent towards each other.
  between(a, b, t) {
    const mix = (p, q) => p.map((value, i) => value + (q[i] - value) * t);
    Object.assign(this, t < 1 ? a : b);
    if (t >= 1) return;
    this.view = { ...b.view };
    for (const name of ["fx", "fy", "cx", "cy", "width", "height"]) this.view[name] += (a.view[name] - b.view[name]) * (1 - t);
    this.eye = mix(a.eye, b.eye);
    this.distance = a.distance + (b.distance - a.distance) * t;
    const forward = mix(a.forward, b.forward);
    this.forward = unit(Math.hypot(...forward) > 1e-3 ? forward : b.forward);
    const right = mix(a.right, b.right);
    const straight = plus(right, this.forward, -dot(right, this.forward));
    this.right = unit(Math.hypot(...straight) > 1e-3 ? straight : cross(b.down, this.forward));
    this.down = cross(this.forward, this.right);
  }
}
