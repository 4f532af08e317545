#include "core/js/cells.h"
#include <stdbool.h>
#include <string.h>
#include "core/base/must.h"

enum {
    RUN_UNITS_MIN = 64, /* 512 bytes */
    CLASSES_EXACT = 16, /* blocks of 1 to 16 units have a class each; then four per doubling */
    UNITS_MAX = CELLS_BYTES_MAX / CELLS_UNIT,
};

_Static_assert(CLASSES_EXACT + 4 * 10 == CELLS_CLASSES, "16 units times 2^10 is UNITS_MAX");
_Static_assert(CLASSES_EXACT << 10 == UNITS_MAX, "the last class is the largest block");
_Static_assert((int)UNITS_MAX < (int)CELLS_RUN_UNITS, "a block and the unused unit 0 fit a run");

static uint32_t class_units(uint32_t class)
{
    if (class < CLASSES_EXACT) return class + 1;
    uint32_t base = (uint32_t)CLASSES_EXACT << (class - CLASSES_EXACT) / 4;
    return base + base / 4 * ((class - CLASSES_EXACT) % 4 + 1);
}

/* The smallest class whose blocks hold units. */
static uint32_t class_for(uint32_t units)
{
    if (units <= CLASSES_EXACT) return units - 1;
    uint32_t doublings = 27 - (uint32_t)__builtin_clz(units - 1); /* 17 to 32 units: 0 */
    uint32_t base = (uint32_t)CLASSES_EXACT << doublings;
    return CLASSES_EXACT + 4 * doublings + (units - base + base / 4 - 1) / (base / 4) - 1;
}

/* The largest class whose blocks fit into units. */
static uint32_t class_within(uint32_t units)
{
    uint32_t class = class_for(units > UNITS_MAX ? UNITS_MAX : units);
    return class_units(class) > units ? class - 1 : class;
}

static uint32_t units_of(size_t bytes)
{
    must(bytes > 0);
    must(bytes <= CELLS_BYTES_MAX);
    return (uint32_t)((bytes + CELLS_UNIT - 1) / CELLS_UNIT);
}

size_t cells_room(size_t bytes)
{
    return (size_t)class_units(class_for(units_of(bytes))) * CELLS_UNIT;
}

void cells_init(struct cells *c, struct mem *mem)
{
    *c = (struct cells){.mem = mem};
}

void cells_clear(struct cells *c)
{
    for (uint32_t i = 0; i < c->run_count; i++)
        mem_free(c->mem, MEM_JETSTREAM, c->runs[i].data, (size_t)c->runs[i].units * CELLS_UNIT);
    mem_free(c->mem, MEM_JETSTREAM, c->runs, c->run_room * sizeof *c->runs);
    mem_free(c->mem, MEM_JETSTREAM, c->free, CELLS_CLASSES * sizeof *c->free);
    cells_init(c, c->mem);
}

static void push_free(struct cells *c, uint32_t cell, uint32_t class)
{
    memcpy(cells_at(c, cell), &c->free[class], sizeof c->free[class]);
    c->free[class] = cell;
    c->free_classes |= UINT64_C(1) << class;
}

static uint32_t pop_free(struct cells *c, uint32_t class)
{
    uint32_t cell = c->free[class];
    must(cell != 0);
    memcpy(&c->free[class], cells_at(c, cell), sizeof c->free[class]);
    if (c->free[class] == 0) c->free_classes &= ~(UINT64_C(1) << class);
    return cell;
}

/* Units from cell on that nobody has become freed blocks, the largest first. */
static void free_units(struct cells *c, uint32_t cell, uint32_t units)
{
    while (units > 0) {
        uint32_t class = class_within(units);
        push_free(c, cell, class);
        cell += class_units(class);
        units -= class_units(class);
    }
}

/* A new last run with room for units; what is left of the old one is not lost. */
static bool grow(struct cells *c, uint32_t units)
{
    if (c->run_count == CELLS_RUNS_MAX) return false;
    if (c->free == NULL) {
        c->free = mem_alloc_zero(c->mem, MEM_JETSTREAM, CELLS_CLASSES * sizeof *c->free);
        if (c->free == NULL) return false;
        c->bytes_taken += CELLS_CLASSES * sizeof *c->free;
    }
    if (c->run_count == c->run_room) {
        uint32_t room = c->run_room == 0 ? 1 : c->run_room * 2;
        struct cells_run *runs = mem_resize(c->mem, MEM_JETSTREAM, c->runs,
                                            c->run_room * sizeof *runs, room * sizeof *runs);
        if (runs == NULL) return false;
        c->bytes_taken += (room - c->run_room) * sizeof *runs;
        c->runs = runs;
        c->run_room = room;
    }
    uint32_t run = c->run_count;
    uint32_t skipped = run == 0 ? 1 : 0; /* number 0 stands for no block */
    uint32_t size = run == 0 ? RUN_UNITS_MIN : c->runs[run - 1].units * 2;
    while (size < units + skipped) size *= 2;
    if (size > CELLS_RUN_UNITS) size = CELLS_RUN_UNITS;
    char *data = mem_alloc(c->mem, MEM_JETSTREAM, (size_t)size * CELLS_UNIT);
    if (data == NULL) return false;
    c->bytes_taken += (size_t)size * CELLS_UNIT;
    if (run > 0)
        free_units(c, ((run - 1) << CELLS_RUN_SHIFT) + c->run_at,
                   c->runs[run - 1].units - c->run_at);
    c->runs[run] = (struct cells_run){data, size};
    c->run_count++;
    c->run_at = skipped;
    return true;
}

uint32_t cells_alloc(struct cells *c, size_t bytes)
{
    uint32_t class = class_for(units_of(bytes)), units = class_units(class);
    uint64_t larger = c->free_classes >> class << class;
    uint32_t cell;
    if (larger != 0) {
        uint32_t from = (uint32_t)__builtin_ctzll(larger);
        cell = pop_free(c, from);
        free_units(c, cell + units, class_units(from) - units);
    } else {
        bool fits = c->run_count > 0 && c->runs[c->run_count - 1].units - c->run_at >= units;
        if (!fits && !grow(c, units)) return 0;
        cell = ((c->run_count - 1) << CELLS_RUN_SHIFT) + c->run_at;
        c->run_at += units;
    }
    c->bytes_used += (size_t)units * CELLS_UNIT;
    return cell;
}

void cells_free(struct cells *c, uint32_t cell, size_t bytes)
{
    if (cell == 0) return;
    uint32_t class = class_for(units_of(bytes));
    push_free(c, cell, class);
    c->bytes_used -= (size_t)class_units(class) * CELLS_UNIT;
}
