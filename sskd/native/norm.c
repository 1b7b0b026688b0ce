/* Batch norm with what follows it (a sum, a ReLU) in training on the CPU, forward and backward: two passes over memory
   each, where torch takes up to five, and with 16 channels one of its vectors is wider than a row.

   Maps lie in channels-last: rows x channels, in float32 or (half) in bfloat16, arithmetic in float32. A row here is a
   "lane row" of `width` numbers, 64 or a multiple: where there are fewer channels, neighbouring pixels in one row. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define LANES 16                /* floats in a vector */
#define VECTORS 4               /* vectors side by side: their sums stay in registers */
#define STRIP (LANES * VECTORS) /* numbers of a row that are summed at once */
#define ROWS 128                /* summed in float32 before they go to a double */
#define SAMPLES 64

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE floats load(const void *from, long at, int half) {
    floats value;
    if (half) {
        halves stored;
        memcpy(&stored, (const uint16_t *)from + at, sizeof stored);
        words wide = __builtin_convertvector(stored, words) << 16;
        memcpy(&value, &wide, sizeof value);
    } else {
        memcpy(&value, (const float *)from + at, sizeof value);
    }
    return value;
}

INLINE void store(void *to, long at, floats value, int half) {
    if (!half) {
        memcpy((float *)to + at, &value, sizeof value);
        return;
    }
#ifdef __AVX512BF16__
    __m256bh stored = _mm512_cvtneps_pbh((__m512)value);
#else
    words bits;
    memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1); /* to the nearest, ties to even */
    halves stored = __builtin_convertvector(bits >> 16, halves);
#endif
    memcpy((uint16_t *)to + at, &stored, sizeof stored);
}

INLINE floats zero_where(ints mask, floats value) { /* mask: all bits of a lane, or none */
    return (floats)(~mask & (ints)value);
}

/* The part of `count` things that is thread `part`'s. */
INLINE void share(long count, int part, int parts, long *first, long *end) {
    *first = count * part / parts;
    *end = count * (part + 1) / parts;
}

/* sums[0..width) += sum of v, sums[width..2 * width) += sum of v * w over rows first..end, where v and w are x - shift
   twice, or the gradient (through the ReLU, if y is given) and x - shift. With `passed` that gradient is kept there. */
INLINE void sum_rows(const void *x, const void *y, const void *g, void *passed, const float *shift, long first, long end,
                     long width, double *sums, int half) {
    for (long block = first; block < end; block += ROWS) {
        long last = block + ROWS < end ? block + ROWS : end;
        for (long strip = 0; strip < width; strip += STRIP) {
            floats total[VECTORS] = {0}, product[VECTORS] = {0}, about[VECTORS];
            memcpy(about, shift + strip, sizeof about);
            for (long row = block; row < last; row++) {
                for (int k = 0; k < VECTORS; k++) {
                    long at = row * width + strip + k * LANES;
                    floats centred = load(x, at, half) - about[k], value = centred;
                    if (g) {
                        value = load(g, at, half);
                        if (y)
                            value = zero_where((ints)(load(y, at, half) <= 0), value);
                        if (passed)
                            store(passed, at, value, half);
                    }
                    total[k] += value;
                    product[k] += value * centred;
                }
            }
            for (int k = 0; k < VECTORS; k++)
                for (int lane = 0; lane < LANES; lane++) {
                    sums[strip + k * LANES + lane] += total[k][lane];
                    sums[width + strip + k * LANES + lane] += product[k][lane];
                }
        }
    }
}

/* to = relu(a * x + b + other), or, with g, a * g + c * x + b where y (if given) let the gradient pass. */
INLINE void combine_rows(const void *x, const void *other, const void *y, const void *g, void *to, const float *a,
                         const float *b, const float *c, long first, long end, long width, int relu, int half) {
    for (long row = first; row < end; row++) {
        for (long lane = 0; lane < width; lane += LANES) {
            long at = row * width + lane;
            floats by = load(a, lane, 0), plus = load(b, lane, 0), value;
            if (g) {
                floats gradient = load(g, at, half);
                if (y)
                    gradient = zero_where((ints)(load(y, at, half) <= 0), gradient);
                value = by * gradient + (load(c, lane, 0) * load(x, at, half) + plus);
            } else {
                value = by * load(x, at, half) + plus;
                if (other)
                    value += load(other, at, half);
                if (relu)
                    value = zero_where((ints)(value < 0), value);
            }
            store(to, at, value, half);
        }
    }
}

/* What a call needs beside its arguments: factors of a lane row, and each thread's sums. */
typedef struct {
    float *a, *b, *c;
    double *sums;
} Scratch;

static int get_scratch(Scratch *scratch, long width, int threads) {
    scratch->sums = calloc(1, 2 * width * threads * sizeof(double) + 3 * width * sizeof(float));
    scratch->a = (float *)(scratch->sums + 2 * width * threads);
    scratch->b = scratch->a + width;
    scratch->c = scratch->b + width;
    return scratch->sums != 0;
}

/* Repeats the first `channels` numbers to `width`. */
static void repeat(float *numbers, long channels, long width) {
    for (long i = channels; i < width; i++)
        numbers[i] = numbers[i - channels];
}

/* sum_rows by all threads; their sums by channel are then the first `channels` of each half of sums. */
static void sum_all(const void *x, const void *y, const void *g, void *passed, const float *shift, long rows, long width,
                    long channels, double *sums, int half, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; part++) {
        long first, end;
        share(rows, part, threads, &first, &end);
        double *own = sums + part * 2 * width;
        if (half)
            sum_rows(x, y, g, passed, shift, first, end, width, own, 1);
        else
            sum_rows(x, y, g, passed, shift, first, end, width, own, 0);
    }
    for (long i = 0; i < 2 * width * threads; i++) {
        long to = i % (2 * width) / width * width + i % width % channels;
        if (i != to)
            sums[to] += sums[i];
    }
}

static void combine_all(const void *x, const void *other, const void *y, const void *g, void *to, const float *a,
                        const float *b, const float *c, long rows, long width, int relu, int half, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; part++) {
        long first, end;
        share(rows, part, threads, &first, &end);
        if (half)
            combine_rows(x, other, y, g, to, a, b, c, first, end, width, relu, 1);
        else
            combine_rows(x, other, y, g, to, a, b, c, first, end, width, relu, 0);
    }
}

/* y = a * x + b + other, through a ReLU if relu; a, b: `width` numbers. */
int affine(const void *x, const void *other, void *y, long rows, long width, long channels, const float *a,
           const float *b, int relu, int half, int threads) {
    (void)channels;
    combine_all(x, other, 0, 0, y, a, b, 0, rows, width, relu, half, threads);
    return 1;
}

/* y = relu(norm(x) + other), with the batch's mean and 1 / standard deviation, which are kept in mean and inverse, and
   the running statistics' step. 0 if there is no memory. */
int forward(const void *x, const void *other, void *y, long rows, long width, long channels, const float *weight,
            const float *bias, float *running_mean, float *running_var, double momentum, double eps, float *mean,
            float *inverse, int relu, int half, int threads) {
    Scratch scratch;
    if (!get_scratch(&scratch, width, threads))
        return 0;
    long sampled = rows < SAMPLES ? rows : SAMPLES;
    double count = (double)rows * (width / channels);
    float *shift = scratch.c; /* a rough mean, so that no square is large beside the variance */
    for (long sample = 0; sample < sampled; sample++)
        for (long lane = 0; lane < width; lane += LANES) {
            floats value = load(x, rows * sample / sampled * width + lane, half);
            for (int k = 0; k < LANES; k++)
                shift[(lane + k) % channels] += value[k] * channels / (sampled * width);
        }
    repeat(shift, channels, width);
    sum_all(x, 0, 0, 0, shift, rows, width, channels, scratch.sums, half, threads);
    for (long i = 0; i < channels; i++) {
        double offset = scratch.sums[i] / count, variance = scratch.sums[width + i] / count - offset * offset;
        variance = variance < 0 ? 0 : variance; /* by rounding; a NaN stays one */
        mean[i] = shift[i] + offset;
        inverse[i] = 1 / sqrt(variance + eps);
        running_mean[i] += momentum * (shift[i] + offset - running_mean[i]);
        running_var[i] += momentum * (variance * count / (count - 1) - running_var[i]);
        scratch.a[i] = weight[i] * inverse[i];
        scratch.b[i] = bias[i] - mean[i] * scratch.a[i];
    }
    repeat(scratch.a, channels, width);
    repeat(scratch.b, channels, width);
    combine_all(x, other, 0, 0, y, scratch.a, scratch.b, 0, rows, width, relu, half, threads);
    free(scratch.sums);
    return 1;
}

/* Gradients of relu(norm(x) + other) from its result's, g: of x in dx, of weight and bias, and in passed (if given)
   of other, the part of g that the ReLU let through. y: the result, if it went through one. 0 if there is no memory. */
int backward(const void *x, const void *y, const void *g, void *dx, void *passed, long rows, long width, long channels,
             const float *weight, const float *mean, const float *inverse, float *dweight, float *dbias, int half,
             int threads) {
    Scratch scratch;
    if (!get_scratch(&scratch, width, threads))
        return 0;
    double count = (double)rows * (width / channels);
    memcpy(scratch.c, mean, channels * sizeof(float));
    repeat(scratch.c, channels, width);
    sum_all(x, y, g, passed, scratch.c, rows, width, channels, scratch.sums, half, threads);
    for (long i = 0; i < channels; i++) {
        double total = scratch.sums[i], product = scratch.sums[width + i] * inverse[i];
        dbias[i] = total;
        dweight[i] = product;
        scratch.a[i] = weight[i] * inverse[i];
        scratch.c[i] = -scratch.a[i] * inverse[i] * product / count;
        scratch.b[i] = -scratch.a[i] * total / count - scratch.c[i] * mean[i];
    }
    repeat(scratch.a, channels, width);
    repeat(scratch.b, channels, width);
    repeat(scratch.c, channels, width);
    combine_all(x, 0, passed ? 0 : y, passed ? passed : g, dx, scratch.a, scratch.b, scratch.c, rows, width, 0, half,
                threads);
    free(scratch.sums);
    return 1;
}
