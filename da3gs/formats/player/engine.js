// Everything that takes long: unpacking the splats, sorting them, finding what was clicked. Runs in a worker, into which
// its text is copied, so it may use nothing of the other files; on the page itself where a browser allows no worker.
function engine() {
  const NEAR = 0.01;
  let count = 0;
  let means, alphas, spreads; // Float32Array [n 3], bytes [n], Float32Array [n]: the largest standard deviation
  let depths, depthBits, first, second, low, high; // of the sort

  function fromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
  }

  // The description and the pictures of a .sog, which is a ZIP of stored files.
  function unpack(text) {
    const data = fromBase64(text);
    const view = new DataView(data.buffer);
    const damaged = () => new Error("the splats of this page are damaged");
    const end = data.length - 22;
    if (end < 0 || view.getUint32(end, true) !== 0x06054b50) throw damaged();
    const files = {};
    let at = view.getUint32(end + 16, true);
    for (let left = view.getUint16(end + 10, true); left > 0; left--) {
      if (view.getUint32(at, true) !== 0x02014b50 || view.getUint16(at + 10, true) !== 0) throw damaged();
      const [size, place] = [view.getUint32(at + 24, true), view.getUint32(at + 42, true)];
      const [name, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
      const start = place + 30 + view.getUint16(place + 26, true) + view.getUint16(place + 28, true);
      files[new TextDecoder().decode(data.subarray(at + 46, at + 46 + name))] = data.slice(start, start + size);
      at += 46 + name + extra + comment;
    }
    if (!files["meta.json"]) throw damaged();
    return { meta: JSON.parse(new TextDecoder().decode(files["meta.json"])), files };
  }

  // The pixels of the pictures to what the shader reads: two texels of four whole numbers a splat. Positions become
  // floats; everything else stays an index, or a byte, as it is stored.
  function load(meta, pixels, width) {
    count = meta.count;
    const [fine, coarse] = pixels.means;
    const [turns, sizes, colors, labels] = [pixels.quats[0], pixels.scales[0], pixels.sh0[0], pixels.labels];
    for (const bytes of [fine, coarse, turns, sizes, colors]) {
      if (bytes.length < 4 * count) throw new Error("the splats of this page are damaged");
    }
    const logs = meta.scales.codebook;
    [means, alphas, spreads] = [new Float32Array(3 * count), new Uint8Array(count), new Float32Array(count)];
    const texels = sized(8 * count, width);
    const meanBits = new Uint32Array(means.buffer);
    const { mins, maxs } = meta.means;
    for (let i = 0; i < count; i++) {
      const [a, b, c] = [8 * i, 3 * i, 4 * i];
      for (let axis = 0; axis < 3; axis++) {
        const whole = coarse[c + axis] * 256 + fine[c + axis];
        const log = mins[axis] + (whole / 65535) * (maxs[axis] - mins[axis]);
        means[b + axis] = Math.sign(log) * Math.expm1(Math.abs(log));
      }
      alphas[i] = colors[c + 3];
      spreads[i] = Math.exp(Math.max(logs[sizes[c]], logs[sizes[c + 1]], logs[sizes[c + 2]]));
      texels.set(meanBits.subarray(b, b + 3), a);
      texels[a + 3] = word(turns, c, 4);
      texels[a + 4] = word(sizes, c, 3) + alphas[i] * 2 ** 24;
      texels[a + 5] = word(colors, c, 3);
      texels[a + 6] = labels ? word(labels, c, 2) : 0;
    }
    depths = new Float32Array(count);
    depthBits = new Uint32Array(depths.buffer);
    [first, second] = [new Uint32Array(count), new Uint32Array(count)];
    [low, high] = [new Uint32Array(65536), new Uint32Array(65536)];
    return { count, texels };
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
      const spread = Math.max(spreads[i], 0.002 * along);
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

  return { unpack, load, order, pick };
}

// Calls of the engine as promises; one at a time, in the order of asking.
function startedEngine() {
  const serve = `
    const steps = (${engine})();
    onmessage = async ({ data: [name, parts] }) => {
      try {
        const answer = await steps[name](...parts);
        const moved = name === "unpack" ? Object.values(answer.files).map((bytes) => bytes.buffer)
          : name === "load" ? [answer.texels.buffer] : name === "order" ? [answer.buffer] : [];
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
