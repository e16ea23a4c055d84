// Draws the splats as the renderer of da3gs does: the same projection, blur, cut-offs and harmonics, colours blended
// without any change of colour space, here from back to front into half floats, and the background put behind at the end.
const SPLAT_VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D splats;
uniform sampler2D palette, books; // 64 entries of harmonics in a row; codebooks of sizes, colours, harmonics
uniform mat4 worldToCam;
uniform vec4 lens, limits; // fx fy cx cy; left right up down
uniform vec3 eye;
uniform vec2 size;
uniform int degree;
in uint index;
out vec2 place;
flat out vec4 tint;

uvec4 texel(usampler2D source, uint at) {
  uint width = uint(textureSize(source, 0).x);
  return texelFetch(source, ivec2(at % width, at / width), 0);
}

uvec3 bytes(uint word) {
  return uvec3(word & 255u, (word >> 8u) & 255u, (word >> 16u) & 255u);
}

float entry(int book, uint index) {
  return texelFetch(books, ivec2(int(index), book), 0).r;
}

vec3 entries(int book, uvec3 indexes) {
  return vec3(entry(book, indexes.x), entry(book, indexes.y), entry(book, indexes.z));
}

mat3 rotation(uint stored) { // the three smaller of w, x, y, z, and which is missing
  vec3 v = (vec3(bytes(stored)) / 127.5 - 1.0) * 0.70710678118654752;
  float large = sqrt(max(0.0, 1.0 - dot(v, v)));
  uint which = stored >> 24u;
  vec4 q = which == 253u ? vec4(v.x, large, v.yz) : which == 254u ? vec4(v.xy, large, v.z)
    : which == 255u ? vec4(v, large) : vec4(large, v);
  float w = q.x, x = q.y, y = q.z, z = q.w, s = 2.0 / dot(q, q);
  return mat3(
    1.0 - s * (y * y + z * z), s * (x * y + z * w), s * (x * z - y * w),
    s * (x * y - z * w), 1.0 - s * (x * x + z * z), s * (y * z + x * w),
    s * (x * z + y * w), s * (y * z - x * w), 1.0 - s * (x * x + y * y));
}

ivec2 corner; // of the splat's entry in the palette

vec3 h(int k) { // of the harmonics above the constant one
  return entries(2, uvec3(texelFetch(palette, corner + ivec2(k, 0), 0).rgb * 255.0 + 0.5));
}

vec3 color(uvec3 constant, uint label, vec3 e) {
  vec3 sum = 0.28209479177387814 * entries(1, constant) + 0.5;
  int width = (degree + 1) * (degree + 1) - 1;
  corner = ivec2(int(label & 63u) * width, int(label >> 6u));
  float x = e.x, y = e.y, z = e.z, xx = x * x, yy = y * y, zz = z * z;
  if (degree > 0) sum += 0.4886025119029199 * (z * h(1) - y * h(0) - x * h(2));
  if (degree > 1) {
    sum += 1.0925484305920792 * (x * y * h(3) - y * z * h(4) - x * z * h(6));
    sum += 0.31539156525252005 * (2.0 * zz - xx - yy) * h(5) + 0.5462742152960396 * (xx - yy) * h(7);
  }
  if (degree > 2) {
    float r = 4.0 * zz - xx - yy;
    sum += 2.890611442640554 * x * y * z * h(9) + 1.445305721320277 * z * (xx - yy) * h(13);
    sum -= 0.5900435899266435 * (y * (3.0 * xx - yy) * h(8) + x * (xx - 3.0 * yy) * h(14));
    sum -= 0.4570457994644658 * r * (y * h(10) + x * h(12));
    sum += 0.3731763325901154 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy) * h(11);
  }
  return max(sum, 0.0);
}

void main() {
  uvec4 stored = texel(splats, 2u * index), more = texel(splats, 2u * index + 1u);
  vec3 mean = uintBitsToFloat(stored.xyz);
  vec3 cam = (worldToCam * vec4(mean, 1.0)).xyz;
  float opacity = float(more.x >> 24u) / 255.0;
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0); // outside, unless it is seen
  place = vec2(0.0);
  tint = vec4(0.0);
  if (cam.z < 0.01 || opacity < 1.0 / 255.0) return;

  float inverse = 1.0 / cam.z;
  vec2 slope = clamp(cam.xy * inverse, -limits.xz, limits.yw);
  mat3 turn = transpose(mat3(worldToCam)); // its columns are the rows of the rotation
  vec3 across = lens.x * inverse * (turn[0] - slope.x * turn[2]);
  vec3 down = lens.y * inverse * (turn[1] - slope.y * turn[2]);
  mat3 axes = rotation(stored.w);
  vec3 scales = exp(entries(0, bytes(more.x)));
  vec3 v = (across * axes) * scales, w = (down * axes) * scales;
  vec3 area = cross(v, w);
  float uu = dot(v, v), uv = dot(v, w), vv = dot(w, w);
  float determinant = dot(area, area) + 0.3 * (uu + vv) + 0.09;
  uu += 0.3;
  vv += 0.3;

  float half_difference = 0.5 * (uu - vv);
  float large = 0.5 * (uu + vv) + length(vec2(half_difference, uv));
  vec2 axis = half_difference >= 0.0 ? vec2(large - vv, uv) : vec2(uv, large - uu);
  axis = dot(axis, axis) > 0.0 ? normalize(axis) : vec2(1.0, 0.0);
  vec2 side = vec2(float(gl_VertexID & 1), float(gl_VertexID >> 1)) * 2.0 - 1.0;
  place = side * sqrt(2.0 * log(255.0 * opacity) + 1e-4);
  vec2 offset = place.x * sqrt(large) * axis + place.y * sqrt(determinant / large) * vec2(-axis.y, axis.x);
  vec2 pixel = lens.xy * cam.xy * inverse + lens.zw + offset;
  gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0);
  tint = vec4(color(bytes(more.y), more.z, normalize(mean - eye)), opacity);
}`;

const SPLAT_FRAGMENT = `#version 300 es
precision highp float;
in vec2 place;
flat in vec4 tint;
out vec4 result;
void main() {
  float alpha = tint.a * exp(-0.5 * dot(place, place));
  if (alpha < 1.0 / 255.0) discard;
  alpha = min(alpha, 0.999);
  result = vec4(tint.rgb * alpha, alpha);
}`;

const SCREEN_VERTEX = `#version 300 es
out vec2 at;
void main() {
  at = vec2(float(gl_VertexID & 1), float(gl_VertexID >> 1)) * 2.0;
  gl_Position = vec4(2.0 * at - 1.0, 0.0, 1.0);
}`;

const SCREEN_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D picture;
uniform vec4 background; // alpha 0: the world is seen through it
in vec2 at;
out vec4 result;
void main() {
  vec4 drawn = texture(picture, at);
  result = drawn + (1.0 - drawn.a) * background;
}`;

class Drawing {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("this browser has no WebGL 2; try another one, or switch hardware acceleration on");
    this.gl = gl;
    this.canvas = canvas;
    this.precise = Boolean(gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float"));
    this.splatProgram = this.program(SPLAT_VERTEX, SPLAT_FRAGMENT);
    this.screenProgram = this.program(SCREEN_VERTEX, SCREEN_FRAGMENT);
    this.textureWidth = Math.min(4096, gl.getParameter(gl.MAX_TEXTURE_SIZE));
    this.framebuffer = gl.createFramebuffer();
    this.picture = gl.createTexture();
    this.shape = [0, 0];
    this.indices = gl.createBuffer();
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.indices);
    const place = gl.getAttribLocation(this.splatProgram, "index");
    gl.enableVertexAttribArray(place);
    gl.vertexAttribIPointer(place, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(place, 1);
    this.plain = gl.createVertexArray();
    this.drawn = 0;
  }

  program(vertex, fragment) {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      throw new Error(`the graphics driver refuses the shader: ${gl.getProgramInfoLog(program)}`);
    }
    return program;
  }

  uniform(program, name) {
    return this.gl.getUniformLocation(program, name);
  }

  texture(unit, fill) {
    const gl = this.gl;
    const texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    fill(gl);
    return texture;
  }

  // A picture as it is stored: neither multiplied by its alpha nor moved to another colour space.
  picture8(unit, bitmap) {
    return this.texture(unit, (gl) => {
      gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
      gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    });
  }

  // The bytes of a picture, row after row from the top.
  pixels(bitmap) {
    const gl = this.gl;
    const texture = this.picture8(0, bitmap);
    const bytes = new Uint8Array(4 * bitmap.width * bitmap.height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    gl.readPixels(0, 0, bitmap.width, bitmap.height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, null, 0);
    gl.deleteTexture(texture);
    return bytes;
  }

  // Hand the splats over to the graphics memory; `palette` is the picture of the harmonics, or null.
  load({ texels }, meta, palette) {
    this.degree = palette ? meta.shN.bands : 0;
    const rows = texels.length / (4 * this.textureWidth);
    if (rows > this.gl.getParameter(this.gl.MAX_TEXTURE_SIZE)) {
      throw new Error("this graphics card cannot hold so many splats");
    }
    const books = new Float32Array(3 * 256);
    [meta.scales, meta.sh0, meta.shN].forEach((part, row) => books.set(part?.codebook ?? [], 256 * row));
    const blank = new ImageData(1, 1);
    this.textures = [
      this.texture(0, (gl) => gl.texImage2D(
        gl.TEXTURE_2D, 0, gl.RGBA32UI, this.textureWidth, rows, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, texels)),
      this.picture8(0, palette ?? blank),
      this.texture(0, (gl) => gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, 256, 3, 0, gl.RED, gl.FLOAT, books)),
    ];
  }

  // Which splats to draw, in this order.
  setOrder(order) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.indices);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    this.drawn = order.length;
  }

  resize(width, height) {
    if (this.shape[0] === width && this.shape[1] === height) return;
    const gl = this.gl;
    this.shape = [width, height];
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.LINEAR);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    const [inner, type] = this.precise ? [gl.RGBA16F, gl.HALF_FLOAT] : [gl.RGBA8, gl.UNSIGNED_BYTE];
    gl.texImage2D(gl.TEXTURE_2D, 0, inner, width, height, 0, gl.RGBA, type, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.picture, 0);
  }

  // One picture of the canvas, drawn with `share` of its pixels a side. The lens is given for the whole canvas.
  draw(camera, lens, background, share) {
    const { width, height } = this.canvas;
    this.view(camera.worldToCam(), camera.eye, lens, width, height, share);
    this.show(null, [0, 0, width, height], [...background, 1]);
  }

  // What an eye sees, into a picture of our own.
  view(worldToCam, eye, lens, fullWidth, fullHeight, share) {
    const gl = this.gl;
    const width = Math.max(1, Math.round(fullWidth * share));
    const height = Math.max(1, Math.round(fullHeight * share));
    const [sx, sy] = [width / fullWidth, height / fullHeight];
    const [fx, fy, cx, cy] = [lens.fx * sx, lens.fy * sy, lens.cx * sx, lens.cy * sy];
    const [beyondX, beyondY] = [(0.15 * width) / fx, (0.15 * height) / fy];
    gl.activeTexture(gl.TEXTURE0);
    this.resize(width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const p = this.splatProgram;
    gl.useProgram(p);
    gl.bindVertexArray(this.array);
    ["splats", "palette", "books"].forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, this.textures[unit]);
      gl.uniform1i(this.uniform(p, name), unit);
    });
    gl.uniformMatrix4fv(this.uniform(p, "worldToCam"), true, worldToCam);
    gl.uniform4f(this.uniform(p, "lens"), fx, fy, cx, cy);
    gl.uniform4f(
      this.uniform(p, "limits"),
      cx / fx + beyondX, (width - cx) / fx + beyondX, cy / fy + beyondY, (height - cy) / fy + beyondY);
    gl.uniform3fv(this.uniform(p, "eye"), eye);
    gl.uniform2f(this.uniform(p, "size"), width, height);
    gl.uniform1i(this.uniform(p, "degree"), this.degree);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.drawn);
  }

  // The picture of `view` on a part of the screen, before the background.
  show(framebuffer, [left, bottom, width, height], background) {
    const gl = this.gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
    gl.viewport(left, bottom, width, height);
    gl.useProgram(this.screenProgram);
    gl.bindVertexArray(this.plain);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.picture);
    gl.uniform1i(this.uniform(this.screenProgram, "picture"), 0);
    gl.uniform4fv(this.uniform(this.screenProgram, "background"), background);
    gl.disable(gl.BLEND);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
