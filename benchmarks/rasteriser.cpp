// The renderer's algorithm as a plain C++ program would have it, for comparison only: one thread, same cut-offs,
// harmonics of degree 2. Compiled by benchmarks/speed.py with -O3 -march=native and no errno, traps or signed zeros.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace {

constexpr int kTile = 16;
constexpr float kCut = -7.994353436858858f;  // log2(1/255)

struct Splat {
    float u, v, l11, l21, l22, power, r, g, b, z;
    int x0, x1, y0, y1;
};

inline float exp2_of(float x) {
    x = std::max(x, -30.0f);
    float shifted = x + 12582912.0f;
    float f = x - (shifted - 12582912.0f);
    float p = 0.00015345811906928436f;
    p = p * f + 0.0013399931218765967f;
    p = p * f + 0.009618488957482407f;
    p = p * f + 0.05550328776966729f;
    p = p * f + 0.24022646890630578f;
    p = p * f + 0.6931472057372664f;
    p = p * f + 1.000000000554169f;
    int32_t steps, bits;
    std::memcpy(&steps, &shifted, 4);
    std::memcpy(&bits, &p, 4);
    bits += steps << 23;
    std::memcpy(&p, &bits, 4);
    return p;
}

bool project(const float* m, const float* s, const float* q, float opacity, const float* sh, const float* c, int height,
             int width, Splat& out) {
    float x = c[0] * m[0] + c[1] * m[1] + c[2] * m[2] + c[9];
    float y = c[3] * m[0] + c[4] * m[1] + c[5] * m[2] + c[10];
    float z = c[6] * m[0] + c[7] * m[1] + c[8] * m[2] + c[11];
    if (!(z >= 0.01f) || !(opacity >= 1.0f / 255)) return false;
    float i = 1 / z;
    float tx = std::min(std::max(x * i, -c[17]), c[18]), ty = std::min(std::max(y * i, -c[19]), c[20]);
    float p[6], v[6];
    for (int k = 0; k < 3; ++k) {
        p[k] = c[12] * i * (c[k] - tx * c[6 + k]);
        p[3 + k] = c[13] * i * (c[3 + k] - ty * c[6 + k]);
    }
    float w = q[0], a = q[1], b = q[2], d = q[3], n = 2 / (w * w + a * a + b * b + d * d);
    float r[9] = {1 - n * (b * b + d * d), n * (a * b - d * w), n * (a * d + b * w),
                  n * (a * b + d * w), 1 - n * (a * a + d * d), n * (b * d - a * w),
                  n * (a * d - b * w), n * (b * d + a * w), 1 - n * (a * a + b * b)};
    for (int row = 0; row < 2; ++row)
        for (int k = 0; k < 3; ++k)
            v[3 * row + k] = (p[3 * row] * r[k] + p[3 * row + 1] * r[3 + k] + p[3 * row + 2] * r[6 + k]) * s[k];
    float uu = v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + 0.3f, vv = v[3] * v[3] + v[4] * v[4] + v[5] * v[5] + 0.3f;
    float uv = v[0] * v[3] + v[1] * v[4] + v[2] * v[5], det = uu * vv - uv * uv;
    if (!(det > 0)) return false;
    out.power = std::log2(opacity);
    float reach = 1.3862943611f * std::max(out.power - kCut, 0.0f);
    out.u = c[12] * x * i + c[15];
    out.v = c[13] * y * i + c[16];
    float ru = std::sqrt(reach * uu), rv = std::sqrt(reach * vv);
    out.x0 = (int)std::ceil(std::max(out.u - ru - 0.5f, 0.0f));
    out.x1 = (int)std::floor(std::min(out.u + ru - 0.5f, width - 1.0f));
    out.y0 = (int)std::ceil(std::max(out.v - rv - 0.5f, 0.0f));
    out.y1 = (int)std::floor(std::min(out.v + rv - 0.5f, height - 1.0f));
    if (out.x0 > out.x1 || out.y0 > out.y1) return false;
    out.l11 = std::sqrt(0.7213475204f * vv / det);
    out.l21 = -out.l11 * uv / vv;
    out.l22 = std::sqrt(0.7213475204f / vv);
    float dx = m[0] - c[21], dy = m[1] - c[22], dz = m[2] - c[23], l = 1 / std::sqrt(dx * dx + dy * dy + dz * dz);
    dx *= l, dy *= l, dz *= l;
    float basis[9] = {0.28209479f, -0.48860251f * dy, 0.48860251f * dz, -0.48860251f * dx, 1.09254843f * dx * dy,
                      -1.09254843f * dy * dz, 0.31539157f * (2 * dz * dz - dx * dx - dy * dy), -1.09254843f * dx * dz,
                      0.54627422f * (dx * dx - dy * dy)};
    float color[3] = {0.5f, 0.5f, 0.5f};
    for (int k = 0; k < 9; ++k)
        for (int channel = 0; channel < 3; ++channel) color[channel] += basis[k] * sh[3 * k + channel];
    out.r = std::max(color[0], 0.0f), out.g = std::max(color[1], 0.0f), out.b = std::max(color[2], 0.0f), out.z = z;
    return true;
}

struct Tile {
    float t[256], r[256], g[256], b[256], z[256];
};

void blend(const Splat& s, int left, int top, Tile& tile) {
    int x0 = std::max(s.x0 - left, 0) & ~7, x1 = std::min(s.x1 - left, kTile - 1) | 7;
    for (int y = std::max(s.y0 - top, 0); y <= std::min(s.y1 - top, kTile - 1); ++y) {
        float dy = top + y + 0.5f - s.v, across = s.l21 * dy, ss = s.l22 * dy * s.l22 * dy, start = left + 0.5f - s.u;
        float *t = tile.t + 16 * y, *r = tile.r + 16 * y, *g = tile.g + 16 * y, *b = tile.b + 16 * y,
              *z = tile.z + 16 * y;
        for (int x = x0; x <= x1; x += 8)
#pragma GCC ivdep
            for (int k = x; k < x + 8; ++k) {
                float p = s.l11 * (start + k) + across, power = s.power - (p * p + ss);
                float alpha = std::min(exp2_of(power), 0.999f), rest = t[k] - t[k] * alpha;
                bool hit = power >= kCut && t[k] > 0, going = rest > 1e-4f;
                float weight = hit && going ? t[k] * alpha : 0.0f;
                t[k] = hit ? (going ? rest : -t[k]) : t[k];
                r[k] += weight * s.r, g[k] += weight * s.g, b[k] += weight * s.b, z[k] += weight * s.z;
            }
    }
}

}  // namespace

extern "C" void render(int number, const float* means, const float* scales, const float* quaternions,
                       const float* opacities, const float* harmonics, const float* camera, int height, int width,
                       float* color, float* depth, float* alpha) {
    static std::vector<Splat> splats;
    static std::vector<uint64_t> order, spare;
    static std::vector<int> lists;
    splats.resize(number), order.resize(number), spare.resize(number);
    int seen = 0;
    for (int i = 0; i < number; ++i)
        if (project(means + 3 * i, scales + 3 * i, quaternions + 4 * i, opacities[i], harmonics + 27 * i, camera, height,
                    width, splats[i])) {
            uint32_t bits;
            std::memcpy(&bits, &splats[i].z, 4);
            order[seen++] = (uint64_t)bits << 32 | (uint32_t)i;
        }
    for (int shift = 32; shift < 64; shift += 11) {
        std::vector<int> places(2048);
        for (int i = 0; i < seen; ++i) ++places[order[i] >> shift & 2047];
        int position = 0;
        for (int& place : places) position += std::exchange(place, position);
        for (int i = 0; i < seen; ++i) spare[places[order[i] >> shift & 2047]++] = order[i];
        std::swap(order, spare);
    }
    int across = (width + kTile - 1) / kTile, down = (height + kTile - 1) / kTile;
    std::vector<int> starts(across * down + 1), places;
    auto each_tile = [&](auto&& visit) {
        for (int i = 0; i < seen; ++i) {
            const Splat& s = splats[(uint32_t)order[i]];
            for (int y = s.y0 / kTile; y <= s.y1 / kTile; ++y)
                for (int x = s.x0 / kTile; x <= s.x1 / kTile; ++x) visit(y * across + x, (int)(uint32_t)order[i]);
        }
    };
    each_tile([&](int tile, int) { ++starts[tile + 1]; });
    for (int tile = 0; tile < across * down; ++tile) starts[tile + 1] += starts[tile];
    lists.resize(starts.back());
    places.assign(starts.begin(), starts.end() - 1);
    each_tile([&](int tile, int splat) { lists[places[tile]++] = splat; });
    for (int index = 0; index < across * down; ++index) {
        int left = index % across * kTile, top = index / across * kTile;
        Tile tile = {};
        for (int k = 0; k < 256; ++k) tile.t[k] = left + k % 16 < width && top + k / 16 < height ? 1.0f : -1.0f;
        for (int i = starts[index]; i < starts[index + 1]; ++i) {
            if ((i - starts[index]) % 32 == 31 && *std::max_element(tile.t, tile.t + 256) <= 0) break;
            if (i + 8 < starts[index + 1]) __builtin_prefetch(&splats[lists[i + 8]]);
            blend(splats[lists[i]], left, top, tile);
        }
        for (int y = 0; y < std::min(kTile, height - top); ++y)
            for (int x = 0; x < std::min(kTile, width - left); ++x) {
                int k = 16 * y + x, at = (top + y) * width + left + x;
                float covered = 1 - std::fabs(tile.t[k]);
                color[3 * at] = tile.r[k], color[3 * at + 1] = tile.g[k], color[3 * at + 2] = tile.b[k];
                alpha[at] = covered;
                depth[at] = covered > 0 ? tile.z[k] / covered : 0;
            }
    }
}
