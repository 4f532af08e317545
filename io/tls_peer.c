#include "io/tls_peer.h"
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include "core/base/must.h"

enum {
    OID_TEXT_BYTES = 128,
    DER_SHORT_MAX = 127,    /* longest length in one byte */
    TEXT_PER_DER_BYTE = 16, /* generous: each value is printed four times, escaped or in hex */
    TEXT_SPARE_BYTES = 4096,
};

/* One attribute of a subject, in the order of the certificate. */
struct attribute {
    int rdn;  /* relative names with several attributes share a number */
    int kind; /* index in kinds, -1: none of them */
    bool is_dc;
    char oid[OID_TEXT_BYTES];
    struct bytes value; /* UTF-8 */
};

enum { ATTRIBUTES_MAX = 256 };

struct subject {
    struct attribute *items;
    uint32_t count;
};

/* The attributes that Go knows by name, in the order in which ToRDNSequence lists them. Of the
 * common name and the serial number only the last one counts. */
static const struct {
    const char *oid, *name;
    bool is_single;
} kinds[] = {
    {"2.5.4.6", "C", false},           {"2.5.4.8", "ST", false},
    {"2.5.4.7", "L", false},           {"2.5.4.9", "STREET", false},
    {"2.5.4.17", "POSTALCODE", false}, {"2.5.4.10", "O", false},
    {"2.5.4.11", "OU", false},         {"2.5.4.3", "CN", true},
    {"2.5.4.5", "SERIALNUMBER", true},
};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

static const char domain_component_oid[] = "0.9.2342.19200300.100.1.25";

/* --- reading --- */

static void subject_free(struct subject *s)
{
    for (uint32_t i = 0; i < s->count; i++) OPENSSL_free((void *)s->items[i].value.data);
    free(s->items);
    *s = (struct subject){0};
}

static enum err subject_read(X509 *cert, struct subject *out)
{
    const X509_NAME *name = X509_get_subject_name(cert);
    int count = X509_NAME_entry_count(name);
    *out = (struct subject){0};
    if (count > ATTRIBUTES_MAX) return ERR_TOO_LONG;
    out->items = calloc((size_t)count + 1, sizeof out->items[0]);
    if (out->items == NULL) return ERR_MEMORY;
    for (int i = 0; i < count; i++) {
        struct attribute *a = &out->items[i];
        X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        unsigned char *utf8 = NULL;
        int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry));
        int oid_bytes = OBJ_obj2txt(a->oid, sizeof a->oid, X509_NAME_ENTRY_get_object(entry), 1);
        if (n >= 0) a->value = bytes_of((const char *)utf8, (size_t)n);
        out->count++;
        if (n < 0 || oid_bytes <= 0 || oid_bytes >= OID_TEXT_BYTES) {
            subject_free(out);
            return ERR_INVALID;
        }
        a->rdn = X509_NAME_ENTRY_set(entry);
        a->is_dc = strcmp(a->oid, domain_component_oid) == 0;
        a->kind = -1;
        for (int k = 0; k < KIND_COUNT; k++) {
            if (strcmp(a->oid, kinds[k].oid) == 0) a->kind = k;
        }
    }
    return ERR_OK;
}

/* --- writing --- */

/* What Go escapes in a value; with is_strict also '=', which a parser of names stumbles over. */
static void write_value(struct writer *w, struct bytes value, bool is_strict)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];
        bool is_end = i == 0 || i == value.len - 1;
        bool is_escaped = memchr(",+\"\\<>;", c, 7) != NULL || (c == ' ' && is_end) ||
                          (c == '#' && i == 0) || (is_strict && c == '=');
        if (is_escaped) writer_char(w, '\\');
        writer_char(w, c);
    }
}

static void write_hex(struct writer *w, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    writer_char(w, digits[byte >> 4]);
    writer_char(w, digits[byte & 15]);
}

/* Go encodes the text of an attribute it has no name for as a PrintableString where its alphabet
 * allows that, else as UTF8String, and prints the bytes. */
static void write_unnamed(struct writer *w, const struct attribute *a)
{
    bool is_printable = true;
    for (size_t i = 0; i < a->value.len; i++) {
        char c = a->value.data[i];
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_alnum && (c == 0 || strchr(" '()+,-./:=?", c) == NULL)) is_printable = false;
    }
    writer_text(w, a->oid);
    writer_text(w, "=#");
    write_hex(w, is_printable ? 0x13 : 0x0c);
    size_t n = a->value.len;
    if (n <= DER_SHORT_MAX) {
        write_hex(w, (uint8_t)n);
    } else {
        int length_bytes = n > 0xffff ? 3 : n > 0xff ? 2 : 1;
        write_hex(w, (uint8_t)(0x80 | length_bytes));
        for (int i = length_bytes - 1; i >= 0; i--) write_hex(w, (uint8_t)(n >> (8 * i)));
    }
    for (size_t i = 0; i < n; i++) write_hex(w, (uint8_t)a->value.data[i]);
}

static bool counts(const struct subject *s, uint32_t index)
{
    int kind = s->items[index].kind;
    if (kind < 0) return false;
    if (!kinds[kind].is_single) return true;
    if (s->items[index].value.len == 0) return false;
    for (uint32_t i = index + 1; i < s->count; i++) {
        if (s->items[i].kind == kind) return false;
    }
    return true;
}

/* Subject.ToRDNSequence().String(): the kinds backwards, equal ones joined by '+'. */
static struct bytes write_rdn(struct writer *w, const struct subject *s)
{
    size_t from = w->len;
    for (int kind = KIND_COUNT - 1; kind >= 0; kind--) {
        bool is_first = true;
        for (uint32_t i = 0; i < s->count; i++) {
            if (s->items[i].kind != kind || !counts(s, i)) continue;
            if (is_first && w->len > from) writer_char(w, ',');
            if (!is_first) writer_char(w, '+');
            is_first = false;
            writer_text(w, kinds[kind].name);
            writer_char(w, '=');
            write_value(w, s->items[i].value, false);
        }
    }
    return bytes_of(w->data + from, w->len - from);
}

/* Subject.String(): the same, then the unnamed attributes, last one first. */
static struct bytes write_subject(struct writer *w, const struct subject *s)
{
    size_t from = w->len;
    (void)write_rdn(w, s);
    for (uint32_t i = s->count; i-- > 0;) {
        if (s->items[i].kind >= 0) continue;
        if (w->len > from) writer_char(w, ',');
        write_unnamed(w, &s->items[i]);
    }
    return bytes_of(w->data + from, w->len - from);
}

/* The whole name as RFC 2253 wants it; empty when an attribute has no name that nats-server knows.
 */
static struct bytes write_dn(struct writer *w, const struct subject *s)
{
    size_t from = w->len;
    for (uint32_t i = s->count; i-- > 0;) {
        const struct attribute *a = &s->items[i];
        if (a->kind < 0 && !a->is_dc) {
            w->len = from;
            return bytes_of(w->data + from, 0);
        }
        if (i + 1 < s->count) writer_char(w, a->rdn == s->items[i + 1].rdn ? '+' : ',');
        writer_text(w, a->is_dc ? "DC" : kinds[a->kind].name);
        writer_char(w, '=');
        write_value(w, a->value, true);
    }
    return bytes_of(w->data + from, w->len - from);
}

static struct bytes write_dcs(struct writer *w, const struct subject *s)
{
    size_t from = w->len;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!s->items[i].is_dc) continue;
        if (w->len > from) writer_char(w, ',');
        writer_text(w, "DC=");
        writer_bytes(w, s->items[i].value);
    }
    return bytes_of(w->data + from, w->len - from);
}

static struct bytes write_copy(struct writer *w, struct bytes b)
{
    size_t from = w->len;
    writer_bytes(w, b);
    return bytes_of(w->data + from, w->len - from);
}

/* --- putting together --- */

bool tls_peer_spki(X509 *cert, uint8_t out[TLS_PIN_BYTES])
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (n <= 0) return false;
    bool is_ok = EVP_Digest(der, (size_t)n, out, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return is_ok;
}

/* Everything is first written into a roomy block and then copied into one of the exact size,
 * because it lives as long as the connection. */
struct draft {
    struct tls_peer peer;
    struct bytes names[TLS_PEER_NAMES_MAX]; /* emails, dns and uris one after the other */
    uint32_t name_count;
    struct writer w;
    size_t room;
};

static enum err draft_names(struct draft *d, const GENERAL_NAMES *all, int type, uint32_t *count)
{
    *count = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);
        if (name->type != type) continue;
        if (d->name_count == TLS_PEER_NAMES_MAX) return ERR_TOO_LONG;
        const ASN1_IA5STRING *text = name->d.ia5;
        d->names[d->name_count++] =
            write_copy(&d->w, bytes_of((const char *)ASN1_STRING_get0_data(text),
                                       (size_t)ASN1_STRING_length(text)));
        (*count)++;
    }
    return ERR_OK;
}

static bool is_ambiguous(const struct subject *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        int kind = s->items[i].kind;
        if (kind < 0 || !kinds[kind].is_single) continue;
        for (uint32_t k = i + 1; k < s->count; k++)
            if (s->items[k].kind == kind) return true;
    }
    return false;
}

static enum err draft_first(struct draft *d, X509 *cert, const struct subject *s)
{
    d->peer.dn = write_dn(&d->w, s);
    d->peer.dcs = write_dcs(&d->w, s);
    /* Go lets the last of two common names win, so a name could be smuggled in behind another one
     * (the class of CVE-2026-33248): a certificate with two is matched in full or not at all. */
    d->peer.rdn = is_ambiguous(s) ? bytes_of(d->w.data, 0) : write_rdn(&d->w, s);
    GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    if (all == NULL) return ERR_OK;
    enum err e = draft_names(d, all, GEN_EMAIL, &d->peer.emails.count);
    if (e == ERR_OK) e = draft_names(d, all, GEN_DNS, &d->peer.dns.count);
    if (e == ERR_OK) e = draft_names(d, all, GEN_URI, &d->peer.uris.count);
    GENERAL_NAMES_free(all);
    return e;
}

static enum err draft_cert(struct draft *d, X509 *cert, uint32_t index)
{
    struct tls_peer_cert *c = &d->peer.certs[index];
    struct subject s;
    unsigned n;
    enum err e = subject_read(cert, &s);
    if (e != ERR_OK) return e;
    c->subject = write_subject(&d->w, &s);
    if (!tls_peer_spki(cert, c->spki_sha256)) e = ERR_INVALID;
    if (X509_digest(cert, EVP_sha256(), c->cert_sha256, &n) != 1) e = ERR_INVALID;
    if (e == ERR_OK && index == 0) e = draft_first(d, cert, &s);
    subject_free(&s);
    return e;
}

static struct bytes moved(struct bytes b, const char *from, const char *to)
{
    return bytes_of(to + (b.data - from), b.len);
}

static struct tls_peer *draft_finish(const struct draft *d)
{
    size_t names_bytes = d->name_count * sizeof(struct bytes);
    struct tls_peer *p = malloc(sizeof *p + names_bytes + d->w.len + 1);
    if (p == NULL) return NULL;
    struct bytes *names = (struct bytes *)(void *)(p + 1);
    char *text = (char *)(names + d->name_count);
    const char *from = d->w.data;
    *p = d->peer;
    memcpy(text, from, d->w.len);
    for (uint32_t i = 0; i < d->name_count; i++) names[i] = moved(d->names[i], from, text);
    for (uint32_t i = 0; i < p->cert_count; i++) {
        p->certs[i].subject = moved(p->certs[i].subject, from, text);
    }
    p->dn = moved(p->dn, from, text);
    p->dcs = moved(p->dcs, from, text);
    p->rdn = moved(p->rdn, from, text);
    p->emails.items = names;
    p->dns.items = names + p->emails.count;
    p->uris.items = p->dns.items + p->dns.count;
    return p;
}

struct tls_peer *tls_peer_make(X509 *const *chain, uint32_t count)
{
    must(count > 0);
    must(count <= TLS_PEER_CERTS_MAX);
    struct draft *d = calloc(1, sizeof *d);
    struct tls_peer *p = NULL;
    if (d == NULL) return NULL;
    d->room = TEXT_SPARE_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        d->room += (size_t)i2d_X509(chain[i], NULL) * TEXT_PER_DER_BYTE;
    }
    char *text = malloc(d->room);
    if (text == NULL) goto free_draft;
    writer_init(&d->w, text, d->room);
    d->peer.cert_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (draft_cert(d, chain[i], i) != ERR_OK) goto free_text;
    }
    /* A name cut short could be somebody else's. */
    if (!d->w.is_full) p = draft_finish(d);
free_text:
    free(text);
free_draft:
    free(d);
    return p;
}

void tls_peer_free(struct tls_peer *p)
{
    free(p);
}
