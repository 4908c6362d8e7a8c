/* A peer for lz4stream's interop tests: chained LZ4 blocks through liblz4's streaming API.
 *
 *   chained_blocks compress   LAYOUT BUFFER_BYTES MESSAGE_BYTES [LEVEL] < plain  > blocks
 *   chained_blocks decompress LAYOUT BUFFER_BYTES MESSAGE_BYTES         < blocks > plain
 *
 * LAYOUT says where messages stand in memory, which is what decides how far back blocks refer:
 *   ring        one after the other in a ring of BUFFER_BYTES; a message never wraps
 *   contiguous  one after the other in a buffer as large as the whole input
 *
 * Each block is preceded by its length, 4 bytes, little-endian. Message lengths vary from 1 to
 * MESSAGE_BYTES so that ring positions of writer and reader drift apart. LEVEL above 0 is high
 * compression. A dictionary is read from the file named in DICTIONARY, if set.
 */
#include <lz4.h>
#include <lz4hc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what) {
    fprintf(stderr, "chained_blocks: %s\n", what);
    exit(1);
}

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (memory == NULL) fail("out of memory");
    return memory;
}

static char *read_all(FILE *file, size_t *length) {
    size_t capacity = 1 << 16;
    char *data = allocate(capacity);
    *length = 0;
    for (;;) {
        size_t got = fread(data + *length, 1, capacity - *length, file);
        *length += got;
        if (got == 0) return data;
        if (*length == capacity) {
            capacity *= 2;
            data = realloc(data, capacity);
            if (data == NULL) fail("out of memory");
        }
    }
}

static void write_all(const void *data, size_t length) {
    if (fwrite(data, 1, length, stdout) != length) fail("cannot write");
}

/* The next message's length: a small linear congruence, the same in every run. */
static size_t next_length(uint32_t *state, size_t limit) {
    *state = *state * 1664525u + 1013904223u;
    return 1 + (*state >> 8) % limit;
}

static char *dictionary;
static size_t dictionary_length;

static void load_dictionary(void) {
    const char *path = getenv("DICTIONARY");
    if (path == NULL) return;
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("cannot open the dictionary");
    dictionary = read_all(file, &dictionary_length);
    fclose(file);
}

static void compress(int ring, size_t buffer_bytes, size_t message_bytes, int level) {
    size_t length, position = 0, offset = 0;
    char *plain = read_all(stdin, &length);
    char *buffer = allocate(ring ? buffer_bytes : length);
    int room = LZ4_compressBound((int)message_bytes);
    char *block = allocate((size_t)room);
    uint32_t state = 1;
    LZ4_stream_t *fast = LZ4_createStream();
    LZ4_streamHC_t *high = LZ4_createStreamHC();
    if (fast == NULL || high == NULL) fail("out of memory");
    LZ4_resetStreamHC_fast(high, level);
    if (dictionary_length > 0) {
        LZ4_loadDict(fast, dictionary, (int)dictionary_length);
        LZ4_loadDictHC(high, dictionary, (int)dictionary_length);
    }
    while (position < length) {
        size_t message = next_length(&state, message_bytes);
        if (message > length - position) message = length - position;
        if (ring && offset + message_bytes > buffer_bytes) offset = 0;
        memcpy(buffer + offset, plain + position, message);
        int made = level > 0
            ? LZ4_compress_HC_continue(high, buffer + offset, block, (int)message, room)
            : LZ4_compress_fast_continue(fast, buffer + offset, block, (int)message, room, 1);
        if (made <= 0) fail("cannot compress");
        unsigned char size[4] = {(unsigned char)made, (unsigned char)(made >> 8),
                                 (unsigned char)(made >> 16), (unsigned char)(made >> 24)};
        write_all(size, sizeof size);
        write_all(block, (size_t)made);
        offset += message;
        position += message;
    }
    LZ4_freeStream(fast);
    LZ4_freeStreamHC(high);
    free(plain);
    free(buffer);
    free(block);
}

static void decompress(int ring, size_t buffer_bytes, size_t message_bytes) {
    size_t length, position = 0, offset = 0;
    char *blocks = read_all(stdin, &length);
    size_t capacity = ring ? buffer_bytes : (size_t)1 << 28;
    char *buffer = allocate(capacity);
    LZ4_streamDecode_t *stream = LZ4_createStreamDecode();
    if (stream == NULL) fail("out of memory");
    if (!LZ4_setStreamDecode(stream, dictionary, (int)dictionary_length)) fail("dictionary");
    while (position < length) {
        if (length - position < 4) fail("a size field is cut");
        const unsigned char *size = (const unsigned char *)blocks + position;
        size_t stored = size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
        position += 4;
        if (stored > length - position) fail("a block is cut");
        if (ring && offset + message_bytes > capacity) offset = 0;
        if (capacity - offset < message_bytes) fail("the buffer is too small");
        int made = LZ4_decompress_safe_continue(stream, blocks + position, buffer + offset,
                                                (int)stored, (int)message_bytes);
        if (made < 0) fail("a block does not decompress");
        write_all(buffer + offset, (size_t)made);
        offset += (size_t)made;
        position += stored;
    }
    LZ4_freeStreamDecode(stream);
    free(blocks);
    free(buffer);
}

int main(int argc, char **argv) {
    if (argc < 5) fail("usage: compress|decompress ring|contiguous BUFFER_BYTES MESSAGE_BYTES [LEVEL]");
    int ring = strcmp(argv[2], "ring") == 0;
    size_t buffer_bytes = strtoul(argv[3], NULL, 10);
    size_t message_bytes = strtoul(argv[4], NULL, 10);
    if (message_bytes == 0 || (ring && buffer_bytes < message_bytes)) fail("sizes");
    load_dictionary();
    if (strcmp(argv[1], "compress") == 0) {
        compress(ring, buffer_bytes, message_bytes, argc > 5 ? atoi(argv[5]) : 0);
    } else if (strcmp(argv[1], "decompress") == 0) {
        decompress(ring, buffer_bytes, message_bytes);
    } else {
        fail("neither compress nor decompress");
    }
    free(dictionary);
    return fflush(stdout) == 0 ? 0 : 1;
}
