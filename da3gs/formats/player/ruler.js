// A ruler between two points of the scene that were clicked: a line over the picture, and its length in the scene's unit.
class Ruler {
  constructor(unit) {
    this.unit = { metre: "m", given: "units", arbitrary: "units" }[unit] ?? unit ?? "";
    this.points = [];
    this.on = false;
  }

  toggle() {
    this.on = !this.on;
    this.points = [];
    find("ruler").toggleAttribute("hidden", !this.on);
    find("measure").setAttribute("aria-pressed", this.on);
  }

  // A third point starts anew.
  add(point) {
    this.points = this.points.length === 2 ? [point] : [...this.points, point];
  }

  get text() {
    if (this.points.length < 2) return this.points.length ? "click the other end" : "click one end";
    const [a, b] = this.points;
    return `${Number(Math.hypot(...plus(b, a, -1)).toPrecision(3))} ${this.unit || "units"}`;
  }

  // Lay it over the picture; ends behind the camera are not shown.
  draw(camera, lens, canvas) {
    if (!this.on) return;
    const ratio = canvas.clientWidth / canvas.width;
    const seen = this.points.map((point) => {
      const away = plus(point, camera.eye, -1);
      const depth = dot(away, camera.forward);
      const x = (lens.cx + (lens.fx * dot(away, camera.right)) / depth) * ratio;
      const y = (lens.cy + (lens.fy * dot(away, camera.down)) / depth) * ratio;
      return depth > 0.01 ? [x, y] : null;
    });
    const put = (id, values) => Object.entries(values).forEach(([name, value]) => find(id).setAttribute(name, value));
    ["from", "to"].forEach((id, i) => {
      find(id).toggleAttribute("hidden", !seen[i]);
      if (seen[i]) put(id, { cx: seen[i][0], cy: seen[i][1] });
    });
    const both = Boolean(seen[0] && seen[1]);
    find("between").toggleAttribute("hidden", !both);
    if (both) put("between", { x1: seen[0][0], y1: seen[0][1], x2: seen[1][0], y2: seen[1][1] });
    const [x, y] = both ? [0, 1].map((axis) => (seen[0][axis] + seen[1][axis]) / 2) : [canvas.clientWidth / 2, 60];
    put("length", { x, y: y - 10 });
    find("length").textContent = this.text;
  }
}
