// Everything that takes long: unpacking the splats, sorting them, finding what was clicked. Runs in a worker, into which
// its text is copied, so it may use nothing of the other files; on the page itself where a browser allows no worker.
function engine() {
  const NEAR = 0.01;
  let count = 0;
  let means, alphas, logScales; // Float32Array [n 3], bytes [n], bytes [n 3]
  let depths, depthBits, first, second, low, high; // of the sort

  function fromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
  }

  async function unpacked(text) {
    const zipped = new Blob([fromBase64(text)]).stream();
    const plain = zipped.pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(plain).arrayBuffer());
  }

  // An .spz of version 3 to what the shader reads: two texels of four whole numbers a splat, and its harmonics in as
  // many texels as they need. Positions become floats; everything else stays as it is stored.
  async function load(text, width) {
    const data = await unpacked(text);
    const header = new DataView(data.buffer);
    count = header.getUint32(8, true);
    const degree = data[12];
    const unit = 2 ** -data[13];
    const bands = (degree + 1) ** 2 - 1;
    const lengths = [9, 1, 3, 3, 4, 3 * bands];
    const parts = [];
    let at = 16;
    for (const length of lengths) {
      parts.push(data.subarray(at, at + length * count));
      at += length * count;
    }
    if (header.getUint32(0, true) !== 0x5053474e || header.getUint32(4, true) !== 3 || at !== data.length) {
      throw new Error("the splats of this page are damaged");
    }
    const [fixed, opacity, colors, scales, rotations, rest] = parts;
    [alphas, logScales] = [opacity, scales];
    means = new Float32Array(3 * count);
    for (let i = 0, j = 0; i < 3 * count; i++, j += 3) {
      means[i] = ((fixed[j] | (fixed[j + 1] << 8) | (fixed[j + 2] << 24 >> 8)) * unit);
    }
    const wordsPerSplat = 4 * Math.ceil((3 * bands) / 16);
    const texels = sized(8 * count, width);
    const harmonics = sized(wordsPerSplat * count, width);
    const meanBits = new Uint32Array(means.buffer);
    for (let i = 0; i < count; i++) {
      const [a, b, c] = [8 * i, 3 * i, 4 * i];
      texels.set(meanBits.subarray(b, b + 3), a);
      texels[a + 3] = word(rotations, c, 4);
      texels[a + 4] = word(scales, b, 3) + opacity[i] * 2 ** 24;
      texels[a + 5] = word(colors, b, 3);
    }
    const bytes = new Uint8Array(harmonics.buffer);
    for (let i = 0; i < count * (bands > 0); i++) {
      bytes.set(rest.subarray(3 * bands * i, 3 * bands * (i + 1)), 4 * wordsPerSplat * i);
    }
    depths = new Float32Array(count);
    depthBits = new Uint32Array(depths.buffer);
    [first, second] = [new Uint32Array(count), new Uint32Array(count)];
    [low, high] = [new Uint32Array(65536), new Uint32Array(65536)];
    return { count, degree, texels, harmonics };
  }

  // Room for so many words in whole rows of a texture of this width, four words a texel.
  function sized(words, width) {
    return new Uint32Array(Math.max(1, Math.ceil(words / (4 * width))) * 4 * width);
  }

  function word(bytes, at, length) {
    let value = 0;
    for (let i = length - 1; i >= 0; i--) value = value * 256 + bytes[at + i];
    return value;
  }

  // The splats in front of the camera, farthest first: a radix sort of their depths to the last bit. `row` is the third
  // row of the transform from world to camera. Bits of positive floats are in the order of the floats.
  function order(row) {
    low.fill(0);
    high.fill(0);
    let seen = 0;
    for (let i = 0; i < count; i++) {
      const z = row[0] * means[3 * i] + row[1] * means[3 * i + 1] + row[2] * means[3 * i + 2] + row[3];
      depths[i] = z;
      if (z < NEAR) continue;
      second[seen++] = i;
      low[depthBits[i] & 65535]++;
      high[depthBits[i] >>> 16]++;
    }
    for (let i = 65534; i >= 0; i--) {
      low[i] += low[i + 1];
      high[i] += high[i + 1];
    }
    for (let i = seen - 1; i >= 0; i--) first[--low[depthBits[second[i]] & 65535]] = second[i];
    for (let i = seen - 1; i >= 0; i--) second[--high[depthBits[first[i]] >>> 16]] = first[i];
    return second.slice(0, seen);
  }

  // How far along a ray the light that comes from there is half used up; null where the ray meets too little.
  function pick(eye, direction) {
    const hits = [];
    for (let i = 0; i < count; i++) {
      const [x, y, z] = [means[3 * i] - eye[0], means[3 * i + 1] - eye[1], means[3 * i + 2] - eye[2]];
      const along = x * direction[0] + y * direction[1] + z * direction[2];
      if (along < NEAR) continue;
      const beside = x * x + y * y + z * z - along * along;
      const largest = Math.max(logScales[3 * i], logScales[3 * i + 1], logScales[3 * i + 2]);
      const spread = Math.max(Math.exp(largest / 16 - 10), 0.002 * along);
      if (beside < 9 * spread * spread) {
        hits.push([along, (alphas[i] / 255) * Math.exp((-0.5 * beside) / (spread * spread))]);
      }
    }
    hits.sort((a, b) => a[0] - b[0]);
    let light = 1;
    for (const [along, alpha] of hits) {
      light *= 1 - alpha;
      if (light < 0.5) return along;
    }
    return null;
  }

  return { load, order, pick };
}

// Calls of the engine as promises; one at a time, in the order of asking.
function startedEngine() {
  const serve = `
    const steps = (${engine})();
    onmessage = async ({ data: [name, parts] }) => {
      try {
        const answer = await steps[name](...parts);
        const moved = name === "load" ? [answer.texels.buffer, answer.harmonics.buffer]
          : name === "order" ? [answer.buffer] : [];
        postMessage({ answer }, moved);
      } catch (error) {
        postMessage({ error: String(error.message || error) });
      }
    };`;
  const here = () => {
    const steps = engine();
    return async (name, ...parts) => steps[name](...parts);
  };
  let worker;
  try {
    worker = new Worker(URL.createObjectURL(new Blob([serve], { type: "text/javascript" })));
  } catch {
    return here();
  }
  let waiting = []; // [name, parts, resolve, reject]
  let instead = null;
  worker.onmessage = ({ data }) => {
    const [, , resolve, reject] = waiting.shift();
    data.error === undefined ? resolve(data.answer) : reject(new Error(data.error));
  };
  worker.onerror = () => {
    instead ??= here();
    for (const [name, parts, resolve, reject] of waiting) instead(name, ...parts).then(resolve, reject);
    waiting = [];
  };
  return (name, ...parts) =>
    instead
      ? instead(name, ...parts)
      : new Promise((resolve, reject) => {
          waiting.push([name, parts, resolve, reject]);
          worker.postMessage([name, parts]);
        });
}
