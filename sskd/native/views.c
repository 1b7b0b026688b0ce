/* The four rotations of square images, three bytes a pixel: torch copies those one byte at a time. */

#include <stdint.h>
#include <string.h>

#define TILE 64 /* pixels: a tile's rows and columns stay in the cache */

typedef struct {
    uint8_t rgb[3];
} Pixel;

static void rotate_one(const Pixel *image, Pixel *views, long size) {
    long area = size * size;
    memcpy(views, image, area * sizeof(Pixel));
    Pixel *quarter = views + area, *half = views + 2 * area, *three_quarters = views + 3 * area;
    for (long i = 0; i < area; i++)
        half[i] = image[area - 1 - i];
    for (long top = 0; top < size; top += TILE)
        for (long left = 0; left < size; left += TILE)
            for (long row = top; row < top + TILE && row < size; row++) {
                long end = left + TILE < size ? left + TILE : size;
                for (long column = left; column < end; column++)
                    quarter[row * size + column] = image[column * size + size - 1 - row];
                for (long column = left; column < end; column++)
                    three_quarters[row * size + column] = image[(size - 1 - column) * size + row];
            }
}

/* images: count x size x size x 3 bytes; views: count x 4 x size x size x 3, turned counter-clockwise by 0, 90, 180 and
   270 degrees. */
void rotate(const uint8_t *images, uint8_t *views, long count, long size, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long n = 0; n < count; n++)
        rotate_one((const Pixel *)images + n * size * size, (Pixel *)views + 4 * n * size * size, size);
}
