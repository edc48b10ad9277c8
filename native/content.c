/* The content of a record in one pass: for each top-level field the XXH3-64 of its canonical MessagePack.
 *
 * The result is bit for bit that of `decoded` in worker/capture/records/fingerprint.py, which has the rules. What
 * is unusual (an invalid text, a number that is not exact in one step, half a surrogate pair, a name that is there
 * twice, deep nesting, very many fields) is answered with None: then Python reads the record. So there is no rule here,
 * and nothing depends on whether this file was compiled.
 *
 * Functions that return 0 or NULL without an exception mean: ask Python.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <float.h>
#include <stdlib.h>

#include "xxh3.h"

#if FLT_EVAL_METHOD != 0
#error "the reader of content needs doubles that are rounded after each step"
#endif

#define MAX_RECORD (4u << 20) /* bytes; so the buffers stay small, and each offset fits 32 bits */
#define MAX_DEPTH 60
#define MAX_FIELDS 512    /* of a record */
#define MAX_NAMES 8192    /* bytes of the names of all fields of a record */
#define MAX_UNSORTED 64   /* members of an inner object that are put in order here: the work grows by the square */
#define MAX_SHAPES 1024   /* records of as many shapes are remembered: generated names must not fill the memory */
#define MAX_REQUESTED 64
#define MAX_DIGITS 18     /* of a number: they fit 64 bits */
#define COPIED 32         /* bytes: a short text is copied with this fixed size, which takes two instructions */
#define ABSENT 0xffff

typedef struct {
    unsigned char *bytes;
    size_t used, size;
} Buffer;

typedef struct {
    uint32_t start, size; /* of name and value in the packed bytes */
    uint32_t name, name_size;
} Member;

typedef struct {
    const unsigned char *at, *end;
    Buffer packed; /* the MessagePack of the value that is read */
    Buffer sorted; /* members of an object on their way into order */
    Member *members;
    size_t count, room;
} Parser;

static int grow(Buffer *buffer, size_t more) {
    size_t size = buffer->size ? buffer->size : 4096;
    while (size < buffer->used + more) size *= 2;
    unsigned char *bytes = realloc(buffer->bytes, size);
    if (!bytes) return 0;
    buffer->bytes = bytes;
    buffer->size = size;
    return 1;
}

static inline int reserve(Buffer *buffer, size_t more) {
    return buffer->size - buffer->used >= more || grow(buffer, more);
}

/* --- MessagePack ----------------------------------------------------------------------------------------------- */

static inline void put_big_endian(unsigned char *to, uint64_t number, int bytes) {
    for (; bytes > 0; number >>= 8) to[--bytes] = (unsigned char)number;
}

/* Write the type and a number of `bytes` bytes; space for 9 bytes is reserved. */
static inline int put(Buffer *buffer, unsigned type, uint64_t number, int bytes) {
    buffer->bytes[buffer->used] = (unsigned char)type;
    put_big_endian(buffer->bytes + buffer->used + 1, number, bytes);
    buffer->used += 1 + (size_t)bytes;
    return 1;
}

/* Write the head of a text; space for it is reserved. */
static inline int put_text_head(Buffer *buffer, size_t size) {
    if (size < 32) return put(buffer, 0xa0 | (unsigned)size, 0, 0);
    if (size < 1u << 8) return put(buffer, 0xd9, size, 1);
    return size < 1u << 16 ? put(buffer, 0xda, size, 2) : put(buffer, 0xdb, size, 4);
}

/* Write the head of a list or an object before its content, for which one byte was left at `start`. */
static int put_group_head(Buffer *buffer, size_t start, size_t count, unsigned small, unsigned large) {
    if (count < 16) {
        buffer->bytes[start] = (unsigned char)(small | count);
        return 1;
    }
    int size = count < 1u << 16 ? 2 : 4;
    if (!reserve(buffer, 4)) return 0;
    memmove(buffer->bytes + start + 1 + size, buffer->bytes + start + 1, buffer->used - start - 1);
    buffer->bytes[start] = (unsigned char)(size == 2 ? large : large + 1);
    put_big_endian(buffer->bytes + start + 1, count, size);
    buffer->used += (size_t)size;
    return 1;
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

static inline void skip_space(Parser *parser) {
    while (parser->at < parser->end &&
           (*parser->at == ' ' || *parser->at == '\n' || *parser->at == '\r' || *parser->at == '\t'))
        parser->at++;
}

/* Return whether the next character that is no space is this one, and go behind it. */
static inline int take(Parser *parser, unsigned char wanted) {
    skip_space(parser);
    if (parser->at >= parser->end || *parser->at != wanted) return 0;
    parser->at++;
    return 1;
}

static inline int is_digit(unsigned character) {
    return character - '0' < 10u;
}

static inline int is_plain(unsigned character) { /* ASCII that may be in a text as it is */
    return character >= 0x20 && character < 0x80 && character != '"' && character != '\\';
}

/* Return the first character from `at` on that is not plain. */
static inline const unsigned char *skip_plain(const unsigned char *at, const unsigned char *end) {
    const uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
    for (; end - at >= 8; at += 8) {
        uint64_t eight = u64(at), quotes = eight ^ ones * '"', slashes = eight ^ ones * '\\';
        /* The top bit of the first byte that is not plain is set. Bytes behind it may have wrong ones, by a borrow. */
        uint64_t found = ((quotes - ones) | (slashes - ones) | (eight - ones * 0x20) | eight) & tops;
        if (found) return at + (__builtin_ctzll(found) >> 3);
    }
    while (at < end && is_plain(*at)) at++;
    return at;
}

static inline int follows(const unsigned char *at, int count) {
    for (int index = 1; index <= count; index++)
        if ((at[index] & 0xc0) != 0x80) return 0;
    return 1;
}

/* Return the bytes of the UTF-8 character of two and more bytes at `at`; 0 if it is invalid. */
static inline int utf8_size(const unsigned char *at, const unsigned char *end) {
    unsigned first = at[0];
    if (first >= 0xc2 && first < 0xe0) return end - at >= 2 && follows(at, 1) ? 2 : 0;
    if (first >= 0xe0 && first < 0xf0) {
        if (end - at < 3 || !follows(at, 2)) return 0;
        return (first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f) ? 0 : 3;
    }
    if (first >= 0xf0 && first < 0xf5) {
        if (end - at < 4 || !follows(at, 3)) return 0;
        return (first == 0xf0 && at[1] < 0x90) || (first == 0xf4 && at[1] > 0x8f) ? 0 : 4;
    }
    return 0;
}

/* Return the number of four hexadecimal digits, -1 if there are none. */
static int hexadecimal(const unsigned char *at, const unsigned char *end) {
    int number = 0;
    if (end - at < 4) return -1;
    for (int index = 0; index < 4; index++) {
        unsigned digit = at[index], letter = (digit | 0x20) - 'a';
        if (!is_digit(digit) && letter > 5) return -1;
        number = number << 4 | (int)(is_digit(digit) ? digit - '0' : letter + 10);
    }
    return number;
}

/* Write a character as UTF-8 and return the end of it. */
static unsigned char *put_utf8(unsigned char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (unsigned char)code;
        return to;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *to++ = (unsigned char)((more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0) | code >> 6 * more);
    while (more-- > 0) *to++ = (unsigned char)(0x80 | (code >> 6 * more & 0x3f));
    return to;
}

/* Read the escape at `*from`, a backslash, write its character, and return the end of it. */
static unsigned char *unescape(const unsigned char **from, const unsigned char *end, unsigned char *to) {
    static const char names[] = "\"\\/bfnrt", characters[] = "\"\\/\b\f\n\r\t";
    const unsigned char *at = *from + 1;
    if (at >= end) return NULL;
    if (*at != 'u') {
        const char *name = memchr(names, *at, sizeof names - 1);
        if (!name) return NULL;
        *to++ = (unsigned char)characters[name - names];
        *from = at + 1;
        return to;
    }
    int code = hexadecimal(at + 1, end);
    at += 5;
    if (code < 0 || (code >= 0xdc00 && code < 0xe000)) return NULL;
    if (code >= 0xd800 && code < 0xdc00) {
        if (end - at < 6 || at[0] != '\\' || at[1] != 'u') return NULL;
        int low = hexadecimal(at + 2, end);
        if (low < 0xdc00 || low >= 0xe000) return NULL;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        at += 6;
    }
    *from = at;
    return put_utf8(to, (uint32_t)code);
}

/* Read the rest of a text that has an escape at `at`; it began at `start`. */
static int escaped_text(Parser *parser, const unsigned char *start, const unsigned char *at, Member *name) {
    Buffer *packed = &parser->packed;
    const unsigned char *end = parser->end;
    size_t head = packed->used;
    if (!reserve(packed, (size_t)(end - start) + 16)) return 0; /* no escape is shorter than its character */
    unsigned char *text = packed->bytes + head + 5, *to = text; /* five bytes: the longest head */
    memcpy(to, start, (size_t)(at - start));
    to += at - start;
    while (at < end && *at != '"') {
        if (is_plain(*at)) {
            *to++ = *at++;
        } else if (*at == '\\') {
            to = unescape(&at, end, to);
            if (!to) return 0;
        } else {
            int size = *at < 0x80 ? 0 : utf8_size(at, end);
            if (!size) return 0;
            memcpy(to, at, (size_t)size);
            to += size;
            at += size;
        }
    }
    if (at >= end) return 0;
    size_t size = (size_t)(to - text);
    put_text_head(packed, size);
    name->name = (uint32_t)packed->used;
    name->name_size = (uint32_t)size;
    memmove(packed->bytes + packed->used, text, size);
    packed->used += size;
    parser->at = at + 1;
    return 1;
}

/* Read a text. `name` gets the place of its characters in the packed bytes. */
static int text(Parser *parser, Member *name) {
    const unsigned char *start = parser->at + 1, *at = start, *end = parser->end;
    for (;;) {
        at = skip_plain(at, end);
        if (at >= end) return 0;
        if (*at == '"') break;
        if (*at == '\\') return escaped_text(parser, start, at, name);
        int size = *at < 0x80 ? 0 : utf8_size(at, end);
        if (!size) return 0;
        at += size;
    }
    size_t size = (size_t)(at - start);
    if (!reserve(&parser->packed, size + 5 + COPIED)) return 0;
    put_text_head(&parser->packed, size);
    unsigned char *to = parser->packed.bytes + parser->packed.used;
    if (size <= COPIED && end - start >= COPIED)
        memcpy(to, start, COPIED);
    else
        memcpy(to, start, size);
    name->name = (uint32_t)parser->packed.used;
    name->name_size = (uint32_t)size;
    parser->packed.used += size;
    parser->at = at + 1;
    return 1;
}

/* Write `digits` times ten to the power of `exponent`, where one multiplication or division makes it exact. */
static int put_fraction(Buffer *packed, uint64_t digits, int exponent, int is_negative) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (digits >> 53 || exponent < -22 || exponent > 22) return 0;
    double number = (double)digits;
    number = exponent < 0 ? number / tens[-exponent] : number * tens[exponent];
    if (is_negative) number = -number;
    uint64_t bits;
    memcpy(&bits, &number, 8);
    return put(packed, 0xcb, bits, 8);
}

static int put_whole(Buffer *packed, uint64_t digits, int is_negative) {
    if (is_negative && digits) {
        uint64_t number = -digits; /* two's complement */
        if (digits <= 32) return put(packed, (unsigned)(number & 0xff), 0, 0);
        if (digits <= 1u << 7) return put(packed, 0xd0, number, 1);
        if (digits <= 1u << 15) return put(packed, 0xd1, number, 2);
        return digits <= 1u << 31 ? put(packed, 0xd2, number, 4) : put(packed, 0xd3, number, 8);
    }
    if (digits < 1u << 7) return put(packed, (unsigned)digits, 0, 0);
    if (digits < 1u << 8) return put(packed, 0xcc, digits, 1);
    if (digits < 1u << 16) return put(packed, 0xcd, digits, 2);
    return digits < 1ULL << 32 ? put(packed, 0xce, digits, 4) : put(packed, 0xcf, digits, 8);
}

static int number(Parser *parser) {
    const unsigned char *at = parser->at, *end = parser->end, *start;
    uint64_t digits = 0;
    int exponent = 0, is_whole = 1, is_negative = *at == '-';
    at += is_negative;
    start = at;
    while (at < end && is_digit(*at) && at - start <= MAX_DIGITS) digits = digits * 10 + (*at++ - '0');
    if (at == start || at - start > MAX_DIGITS || (*start == '0' && at - start > 1)) return 0;
    if (at < end && *at == '.') {
        const unsigned char *point = at++;
        /* The digits fit 64 bits as long as there are at most 19: a whole part and a fraction of 18 do not. */
        while (at < end && is_digit(*at) && at - start <= MAX_DIGITS + 1) digits = digits * 10 + (*at++ - '0');
        if (at == point + 1 || at - start > MAX_DIGITS + 1) return 0;
        exponent = -(int)(at - point - 1);
        is_whole = 0;
    }
    if (at < end && (*at | 0x20) == 'e') {
        int power = 0, is_small = 0;
        if (++at < end && (*at == '+' || *at == '-')) is_small = *at++ == '-';
        start = at;
        while (at < end && is_digit(*at) && at - start <= 3) power = power * 10 + (*at++ - '0');
        if (at == start || at - start > 3) return 0;
        exponent += is_small ? -power : power;
        is_whole = 0;
    }
    parser->at = at;
    if (!reserve(&parser->packed, 9)) return 0;
    return is_whole ? put_whole(&parser->packed, digits, is_negative)
                    : put_fraction(&parser->packed, digits, exponent, is_negative);
}

static int word(Parser *parser, const char *wanted, size_t size, unsigned type) {
    if ((size_t)(parser->end - parser->at) < size || memcmp(parser->at, wanted, size)) return 0;
    parser->at += size;
    return reserve(&parser->packed, 9) && put(&parser->packed, type, 0, 0);
}

/* Return below, equal to or above 0 as one name is before, equal to or behind another. */
static inline int order(const unsigned char *packed, const Member *one, const Member *other) {
    size_t size = one->name_size < other->name_size ? one->name_size : other->name_size;
    int differs = memcmp(packed + one->name, packed + other->name, size);
    if (differs) return differs;
    return one->name_size < other->name_size ? -1 : one->name_size > other->name_size;
}

/* Put the packed members behind `start` in the order of their names. */
static int sort(Parser *parser, Member *members, size_t count, size_t start) {
    unsigned char *packed = parser->packed.bytes;
    size_t size = parser->packed.used - start;
    if (count > MAX_UNSORTED) return 0;
    for (size_t index = 1; index < count; index++) {
        Member moved = members[index];
        size_t to = index;
        int differs = 1;
        while (to > 0 && (differs = order(packed, &members[to - 1], &moved)) > 0) {
            members[to] = members[to - 1];
            to--;
        }
        if (!differs) return 0;
        members[to] = moved;
    }
    parser->sorted.used = 0;
    if (!reserve(&parser->sorted, size)) return 0;
    unsigned char *to = parser->sorted.bytes;
    for (size_t index = 0; index < count; index++) {
        memcpy(to, packed + members[index].start, members[index].size);
        to += members[index].size;
    }
    memcpy(packed + start, parser->sorted.bytes, size);
    return 1;
}

static inline int value(Parser *parser, int depth);

/* Read the name of a member and its colon. */
static inline int name(Parser *parser, Member *member) {
    skip_space(parser);
    return parser->at < parser->end && *parser->at == '"' && text(parser, member) && take(parser, ':');
}

static int object(Parser *parser, int depth) {
    Buffer *packed = &parser->packed;
    size_t start = packed->used, first = parser->count;
    int is_sorted = 1;
    parser->at++;
    if (!reserve(packed, 1)) return 0;
    packed->used++;
    if (!take(parser, '}')) {
        do {
            Member member = {.start = (uint32_t)packed->used};
            if (!name(parser, &member) || !value(parser, depth + 1)) return 0;
            member.size = (uint32_t)packed->used - member.start;
            if (parser->count == parser->room) {
                size_t room = parser->room ? parser->room * 2 : 256;
                Member *members = realloc(parser->members, room * sizeof *members);
                if (!members) return 0;
                parser->members = members;
                parser->room = room;
            }
            if (parser->count > first) {
                int differs = order(packed->bytes, &parser->members[parser->count - 1], &member);
                if (!differs) return 0;
                if (differs > 0) is_sorted = 0;
            }
            parser->members[parser->count++] = member;
        } while (take(parser, ','));
        if (!take(parser, '}')) return 0;
    }
    size_t count = parser->count - first;
    parser->count = first;
    if (!is_sorted && !sort(parser, parser->members + first, count, start + 1)) return 0;
    return put_group_head(packed, start, count, 0x80, 0xde);
}

static int list(Parser *parser, int depth) {
    size_t start = parser->packed.used, count = 0;
    parser->at++;
    if (!reserve(&parser->packed, 1)) return 0;
    parser->packed.used++;
    if (!take(parser, ']')) {
        do {
            if (!value(parser, depth + 1)) return 0;
            count++;
        } while (take(parser, ','));
        if (!take(parser, ']')) return 0;
    }
    return put_group_head(&parser->packed, start, count, 0x90, 0xdc);
}

static inline int value(Parser *parser, int depth) {
    Member unused;
    skip_space(parser);
    if (parser->at >= parser->end || depth > MAX_DEPTH) return 0;
    switch (*parser->at) {
    case '"': return text(parser, &unused);
    case '{': return object(parser, depth);
    case '[': return list(parser, depth);
    case 't': return word(parser, "true", 4, 0xc3);
    case 'f': return word(parser, "false", 5, 0xc2);
    case 'n': return word(parser, "null", 4, 0xc0);
    default: return number(parser);
    }
}

/* A record, as it is read. */
typedef struct {
    size_t count;
    uint64_t hashes[MAX_FIELDS];
    uint32_t starts[MAX_FIELDS], ends[MAX_FIELDS]; /* of the values in the text */
    size_t names_size;
    unsigned char names[MAX_NAMES]; /* for each field the size of its name in two bytes, and the name */
} Record;

static int record(Parser *parser, const unsigned char *text, Record *found) {
    Buffer *packed = &parser->packed;
    if (!take(parser, '{')) return 0;
    do {
        Member member;
        packed->used = parser->count = 0;
        if (found->count == MAX_FIELDS || !name(parser, &member)) return 0;
        if (member.name_size > 0xffff || found->names_size + 2 + member.name_size > MAX_NAMES) return 0;
        put_big_endian(found->names + found->names_size, member.name_size, 2);
        memcpy(found->names + found->names_size + 2, packed->bytes + member.name, member.name_size);
        found->names_size += 2 + member.name_size;
        skip_space(parser);
        found->starts[found->count] = (uint32_t)(parser->at - text);
        packed->used = 0;
        if (!value(parser, 1)) return 0;
        found->ends[found->count] = (uint32_t)(parser->at - text);
        found->hashes[found->count++] = xxh3(packed->bytes, packed->used);
    } while (take(parser, ','));
    if (!take(parser, '}')) return 0;
    skip_space(parser);
    return parser->at == parser->end;
}

/* --- Python ---------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Parser parser;
    PyObject *requested, *decode;
    PyObject *shapes; /* the names of a record, packed: (names, indices of the requested fields), or None */
    PyObject *last_names, *last_shape;
} Reader;

/* Return the shape of the record; None if a name is there twice; NULL with an exception. */
static PyObject *made_shape(Reader *reader, const Record *found) {
    uint16_t indices[MAX_REQUESTED];
    PyObject *shape = NULL, *packed = NULL, *names = PyTuple_New((Py_ssize_t)found->count), *seen = PySet_New(NULL);
    if (!names || !seen) goto done;
    const unsigned char *at = found->names;
    for (size_t index = 0; index < found->count; index++) {
        Py_ssize_t size = at[0] << 8 | at[1];
        PyObject *name = PyUnicode_DecodeUTF8((const char *)at + 2, size, NULL);
        at += 2 + size;
        if (!name) goto done;
        if (PyTuple_SetItem(names, (Py_ssize_t)index, name) < 0 || PySet_Add(seen, name) < 0) goto done;
    }
    if (PySet_Size(seen) != (Py_ssize_t)found->count) {
        shape = Py_NewRef(Py_None);
        goto done;
    }
    Py_ssize_t count = PyTuple_Size(reader->requested);
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *name = PyTuple_GetItem(reader->requested, index);
        int is_there = PySet_Contains(seen, name);
        Py_ssize_t place = is_there > 0 ? PySequence_Index(names, name) : ABSENT;
        if (is_there < 0 || place < 0) goto done;
        indices[index] = (uint16_t)place;
    }
    packed = PyBytes_FromStringAndSize((const char *)indices, count * (Py_ssize_t)sizeof *indices);
    if (packed) shape = PyTuple_Pack(2, names, packed);
done:
    Py_XDECREF(names);
    Py_XDECREF(seen);
    Py_XDECREF(packed);
    return shape;
}

/* As `made_shape`, remembered. Records of a page usually have one shape. */
static PyObject *shape_of(Reader *reader, const Record *found) {
    if (reader->last_names && (size_t)PyBytes_Size(reader->last_names) == found->names_size &&
        !memcmp(PyBytes_AsString(reader->last_names), found->names, found->names_size))
        return Py_NewRef(reader->last_shape);
    PyObject *names = PyBytes_FromStringAndSize((const char *)found->names, (Py_ssize_t)found->names_size);
    if (!names) return NULL;
    PyObject *shape = Py_XNewRef(PyDict_GetItemWithError(reader->shapes, names));
    if (!shape && !PyErr_Occurred()) {
        shape = made_shape(reader, found);
        if (shape) {
            if (PyDict_Size(reader->shapes) >= MAX_SHAPES) PyDict_Clear(reader->shapes);
            if (PyDict_SetItem(reader->shapes, names, shape) < 0) Py_CLEAR(shape);
        }
    }
    if (shape) {
        PyObject *old_names = reader->last_names, *old_shape = reader->last_shape;
        reader->last_names = Py_NewRef(names);
        reader->last_shape = Py_NewRef(shape);
        Py_XDECREF(old_names);
        Py_XDECREF(old_shape);
    }
    Py_DECREF(names);
    return shape;
}

/* Return the value of a valid text: what is no simple text or null, the decoder of the caller reads. */
static PyObject *decoded(Reader *reader, const unsigned char *text, size_t size) {
    if (*text == 'n') return Py_NewRef(Py_None);
    if (*text == '"' && !memchr(text, '\\', size))
        return PyUnicode_DecodeUTF8((const char *)text + 1, (Py_ssize_t)size - 2, NULL);
    PyObject *given = PyBytes_FromStringAndSize((const char *)text, (Py_ssize_t)size);
    if (!given) return NULL;
    PyObject *result = PyObject_CallFunctionObjArgs(reader->decode, given, NULL);
    Py_DECREF(given);
    return result;
}

static PyObject *reader_read(Reader *reader, PyObject *given) {
    Py_buffer view;
    Record found;
    PyObject *result = NULL, *shape = NULL, *hashes = NULL, *values = NULL;
    if (PyObject_GetBuffer(given, &view, PyBUF_SIMPLE) < 0) return NULL;
    const unsigned char *text = view.buf;
    reader->parser.at = text;
    reader->parser.end = text + view.len;
    found.count = found.names_size = 0;
    if (!view.len || view.len > MAX_RECORD || !record(&reader->parser, text, &found)) {
        result = Py_NewRef(Py_None);
        goto done;
    }
    /* From here on other Python code may run, and read another record: the parser is not used any more. */
    shape = shape_of(reader, &found);
    if (!shape || shape == Py_None) {
        result = Py_XNewRef(shape);
        goto done;
    }
    const unsigned char *indices = (const unsigned char *)PyBytes_AsString(PyTuple_GetItem(shape, 1));
    Py_ssize_t count = PyTuple_Size(reader->requested);
    values = PyTuple_New(count);
    if (!values) goto done;
    for (Py_ssize_t index = 0; index < count; index++) {
        uint16_t at;
        memcpy(&at, indices + index * 2, 2);
        PyObject *value = at == ABSENT ? Py_NewRef(Py_None)
                                       : decoded(reader, text + found.starts[at], found.ends[at] - found.starts[at]);
        if (!value || PyTuple_SetItem(values, index, value) < 0) goto done;
    }
    hashes = PyBytes_FromStringAndSize((const char *)found.hashes, (Py_ssize_t)(found.count * 8));
    if (hashes) result = PyTuple_Pack(3, PyTuple_GetItem(shape, 0), hashes, values);
done:
    Py_XDECREF(shape);
    Py_XDECREF(hashes);
    Py_XDECREF(values);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *requested, *decode;
    if (kwargs && PyDict_Size(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Reader has no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!O", &PyTuple_Type, &requested, &decode)) return NULL;
    if (PyTuple_Size(requested) > MAX_REQUESTED) {
        PyErr_Format(PyExc_ValueError, "at most %d fields can be requested", MAX_REQUESTED);
        return NULL;
    }
    Reader *reader = (Reader *)PyType_GenericAlloc(type, 0);
    if (!reader) return NULL;
    reader->requested = Py_NewRef(requested);
    reader->decode = Py_NewRef(decode);
    reader->shapes = PyDict_New();
    if (!reader->shapes || !grow(&reader->parser.packed, 1) || !grow(&reader->parser.sorted, 1)) {
        Py_DECREF((PyObject *)reader);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    return (PyObject *)reader;
}

static void reader_dealloc(Reader *reader) {
    PyTypeObject *type = Py_TYPE((PyObject *)reader);
    free(reader->parser.packed.bytes);
    free(reader->parser.sorted.bytes);
    free(reader->parser.members);
    Py_XDECREF(reader->requested);
    Py_XDECREF(reader->decode);
    Py_XDECREF(reader->shapes);
    Py_XDECREF(reader->last_names);
    Py_XDECREF(reader->last_shape);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(reader);
    Py_DECREF((PyObject *)type);
}

/* The hashes of a record in another order: their XXH3-64, and the low 16 bits of each. */
static PyObject *arranged(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Py_buffer order, hashes;
    PyObject *low = NULL, *result = NULL;
    (void)module;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "arranged has two arguments");
        return NULL;
    }
    if (PyObject_GetBuffer(args[0], &order, PyBUF_SIMPLE) < 0) return NULL;
    if (PyObject_GetBuffer(args[1], &hashes, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&order);
        return NULL;
    }
    size_t places = (size_t)order.len / 2, there = (size_t)hashes.len / 8;
    if (places > MAX_FIELDS) {
        PyErr_Format(PyExc_ValueError, "at most %d hashes can be arranged", MAX_FIELDS);
        goto done;
    }
    uint64_t found[MAX_FIELDS];
    low = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)places * 2);
    if (!low) goto done;
    unsigned char *to = (unsigned char *)PyBytes_AsString(low);
    for (size_t place = 0; place < places; place++) {
        uint16_t index;
        uint64_t hash = 0;
        memcpy(&index, (const char *)order.buf + place * 2, 2);
        if (index < there) memcpy(&hash, (const char *)hashes.buf + (size_t)index * 8, 8);
        found[place] = hash;
        *to++ = (unsigned char)hash;
        *to++ = (unsigned char)(hash >> 8);
    }
    PyObject *hash = PyLong_FromUnsignedLongLong(xxh3((const unsigned char *)found, places * 8));
    if (hash) result = PyTuple_Pack(2, hash, low);
    Py_XDECREF(hash);
done:
    Py_XDECREF(low);
    PyBuffer_Release(&order);
    PyBuffer_Release(&hashes);
    return result;
}

#define ENTRY 16 /* bytes of an entry of a table of known bytes; the first 8 are its fingerprint */
#define MAX_PLACE 0xffffff

static Py_ssize_t index_of(const unsigned char *fingerprint, unsigned long low, unsigned long high,
                           unsigned long split) {
    unsigned long number = (unsigned long)fingerprint[4] << 24 | (unsigned long)fingerprint[5] << 16 |
                           (unsigned long)fingerprint[6] << 8 | fingerprint[7];
    return (Py_ssize_t)((number & low) < split ? number & high : number & low);
}

/* Return the bucket of this index, borrowed; NULL with an exception if there is none. */
static PyObject *bucket_at(PyObject *buckets, Py_ssize_t index) {
    PyObject *bucket = index < PyList_Size(buckets) ? PyList_GetItem(buckets, index) : NULL;
    if (bucket && PyBytes_Check(bucket)) return bucket;
    PyErr_SetString(PyExc_ValueError, "there is no such bucket");
    return NULL;
}

/* Look fingerprints up in a table of known bytes (worker/capture/state/known_table.py, which has the rules). */
static PyObject *find(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 5 || !PyList_Check(args[0]) || !PyList_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "find(buckets, low, high, split, fingerprints)");
        return NULL;
    }
    unsigned long low = PyLong_AsUnsignedLong(args[1]), high = PyLong_AsUnsignedLong(args[2]);
    unsigned long split = PyLong_AsUnsignedLong(args[3]);
    if (PyErr_Occurred()) return NULL;
    Py_ssize_t wanted = PyList_Size(args[4]);
    PyObject *result = PyList_New(wanted);
    for (Py_ssize_t each = 0; result && each < wanted; each++) {
        PyObject *given = PyList_GetItem(args[4], each), *bucket, *entry = NULL;
        if (!PyBytes_Check(given) || PyBytes_Size(given) != 8) {
            PyErr_SetString(PyExc_TypeError, "a fingerprint has 8 bytes");
            Py_CLEAR(result);
            break;
        }
        const unsigned char *fingerprint = (const unsigned char *)PyBytes_AsString(given);
        bucket = bucket_at(args[0], index_of(fingerprint, low, high, split));
        if (!bucket) {
            Py_CLEAR(result);
            break;
        }
        const char *at = PyBytes_AsString(bucket), *end = at + PyBytes_Size(bucket);
        while (end - at >= ENTRY && memcmp(at, fingerprint, 8)) at += ENTRY;
        entry = end - at >= ENTRY ? PyBytes_FromStringAndSize(at + 8, ENTRY - 8) : Py_NewRef(Py_None);
        if (!entry || PyList_SetItem(result, each, entry) < 0) Py_CLEAR(result);
    }
    return result;
}

/* Whether a table keeps nothing of a record: its state has no fingerprint of bytes, or it has no id. */
static int is_left_out(const unsigned char *key, Py_ssize_t key_size, const unsigned char *state, Py_ssize_t size) {
    return size < 8 || !memcmp(state, "\0\0\0\0\0\0\0", 8) || !memcmp(state, "\0erased", 8) ||
           (key_size == 9 && key[0] == 0xfe);
}

/* Add records to a table of known bytes (likewise), which does not grow, and return how many it has gained.
 * `place`: that of the first record; -1 if the places are in the states. */
static PyObject *add(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 6 || !PyList_Check(args[0]) || !PyList_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "add(buckets, low, high, split, states, place)");
        return NULL;
    }
    unsigned long low = PyLong_AsUnsignedLong(args[1]), high = PyLong_AsUnsignedLong(args[2]);
    unsigned long split = PyLong_AsUnsignedLong(args[3]);
    long place = PyLong_AsLong(args[5]), added = 0;
    if (PyErr_Occurred()) return NULL;
    Py_ssize_t given = PyList_Size(args[4]);
    for (Py_ssize_t each = 0; each < given && place <= MAX_PLACE; each++) {
        PyObject *pair = PyList_GetItem(args[4], each);
        PyObject *name = PyTuple_Check(pair) && PyTuple_Size(pair) == 2 ? PyTuple_GetItem(pair, 0) : NULL;
        PyObject *value = name ? PyTuple_GetItem(pair, 1) : NULL;
        if (!name || !PyBytes_Check(name) || !PyBytes_Check(value)) {
            PyErr_SetString(PyExc_TypeError, "a record has a packed id and a packed state");
            return NULL;
        }
        const unsigned char *key = (const unsigned char *)PyBytes_AsString(name);
        const unsigned char *state = (const unsigned char *)PyBytes_AsString(value);
        Py_ssize_t key_size = PyBytes_Size(name), size = PyBytes_Size(value);
        unsigned char entry[ENTRY];
        if (place >= 0) {
            put_big_endian(entry + 8, (uint64_t)place++, 3);
        } else if (size > 22 && !state[18]) {
            memcpy(entry + 8, state + 19, 3);
        } else {
            continue;
        }
        if (is_left_out(key, key_size, state, size)) continue;
        memcpy(entry, state, 8);
        put_big_endian(entry + 11, xxh3(key, (size_t)key_size), 5);
        Py_ssize_t index = index_of(state, low, high, split);
        PyObject *bucket = bucket_at(args[0], index);
        if (!bucket) return NULL;
        Py_ssize_t there = PyBytes_Size(bucket);
        PyObject *grown = PyBytes_FromStringAndSize(NULL, there + ENTRY);
        if (!grown) return NULL;
        memcpy(PyBytes_AsString(grown), PyBytes_AsString(bucket), (size_t)there);
        memcpy(PyBytes_AsString(grown) + there, entry, ENTRY);
        if (PyList_SetItem(args[0], index, grown) < 0) return NULL;
        added++;
    }
    return PyLong_FromLong(added);
}

/* The number that these digits are; -1 if one of them is none. */
static int digits(const char *at, int count) {
    int number = 0;
    for (int each = 0; each < count; each++) {
        if (at[each] < '0' || at[each] > '9') return -1;
        number = 10 * number + at[each] - '0';
    }
    return number;
}

/* Days from 1970 to the first of a month. */
static int64_t days_to(int year, int month) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int last = year - (month < 3); /* the last year whose leap day, if any, has passed */
    return 365 * (int64_t)(year - 1970) + last / 4 - last / 100 + last / 400 - 477 + before[month - 1];
}

/* The milliseconds since 1970 of a time in UTC as nearly all services write it, 2026-03-01T12:00:00.1234567Z, with any
 * number of fraction digits or none: those that `read_time` in worker/clock.py returns, with the text as it is. */
static PyObject *moment(PyObject *module, PyObject *given) {
    (void)module;
    if (!PyUnicode_Check(given)) Py_RETURN_NONE;
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(given, &size);
    if (!text) {
        PyErr_Clear(); /* half a surrogate pair */
        Py_RETURN_NONE;
    }
    if (size < 20 || size == 21 || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' ||
        text[16] != ':' || text[size - 1] != 'Z' || (size > 20 && text[19] != '.'))
        Py_RETURN_NONE;
    int year = digits(text, 4), month = digits(text + 5, 2), day = digits(text + 8, 2);
    int hour = digits(text + 11, 2), minute = digits(text + 14, 2), second = digits(text + 17, 2);
    /* Beyond 2250 the microseconds are not exact as a double, as which Python divides them. */
    if (year < 1970 || year > 2250 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 ||
        minute > 59 || second < 0 || second > 59)
        Py_RETURN_NONE;
    int64_t days = days_to(year, month) + day - 1;
    if (days >= (month < 12 ? days_to(year, month + 1) : days_to(year + 1, 1))) Py_RETURN_NONE;
    int micro = 0, unit = 100000;
    for (Py_ssize_t at = 20; at < size - 1; at++, unit /= 10) {
        int digit = digits(text + at, 1);
        if (digit < 0) Py_RETURN_NONE;
        micro += digit * unit;
    }
    int64_t seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    double exact = (double)(seconds * 1000000 + micro) / 1e6;
    return PyLong_FromLongLong((long long)(exact * 1000));
}

static PyObject *hash_of(PyObject *module, PyObject *given) {
    Py_buffer view;
    (void)module;
    if (PyObject_GetBuffer(given, &view, PyBUF_SIMPLE) < 0) return NULL;
    uint64_t hash = xxh3(view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLongLong(hash);
}

PyDoc_STRVAR(read_doc, "Return names, hashes (8 bytes each) and the requested values of a record; None: ask Python.");
PyDoc_STRVAR(new_doc, "Reader(requested, decode): reads records. `decode` reads JSON.");
PyDoc_STRVAR(arranged_doc, "arranged(order, hashes): the XXH3-64 of hashes in another order, and their low 16 bits.");
PyDoc_STRVAR(add_doc, "add(buckets, low, high, split, states, place): add records to a table; return how many.");
PyDoc_STRVAR(find_doc, "find(buckets, low, high, split, fingerprints): the entry of each in a table; None for none.");
PyDoc_STRVAR(moment_doc, "Return the milliseconds since 1970 of a time; None: ask Python.");
PyDoc_STRVAR(hash_doc, "Return the XXH3-64 of bytes, for the tests.");

static PyMethodDef reader_methods[] = {{"read", (PyCFunction)reader_read, METH_O, read_doc}, {NULL, NULL, 0, NULL}};
static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)new_doc},         {Py_tp_new, (void *)reader_new}, {Py_tp_dealloc, (void *)reader_dealloc},
    {Py_tp_methods, (void *)reader_methods}, {0, NULL},
};
static PyType_Spec reader_spec = {
    .name = "worker.capture.records._content.Reader",
    .basicsize = sizeof(Reader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reader_slots,
};

static int fill(PyObject *module) {
    PyObject *type = PyType_FromSpec(&reader_spec);
    int failed = !type || PyModule_AddObjectRef(module, "Reader", type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyMethodDef module_methods[] = {
    {"add", (PyCFunction)(void (*)(void))add, METH_FASTCALL, add_doc},
    {"arranged", (PyCFunction)(void (*)(void))arranged, METH_FASTCALL, arranged_doc},
    {"find", (PyCFunction)(void (*)(void))find, METH_FASTCALL, find_doc},
    {"moment", moment, METH_O, moment_doc},
    {"xxh3", hash_of, METH_O, hash_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, (void *)fill}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_content", .m_size = 0, .m_methods = module_methods, .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__content(void);
PyMODINIT_FUNC PyInit__content(void) {
    return PyModuleDef_Init(&module);
}
