#include "core/monitor/root.h"

static const struct {
    const char *title;
    enum page page;
} links[] = {
    {"General", PAGE_VARZ},         {"JetStream", PAGE_JSZ},
    {"Connections", PAGE_CONNZ},    {"Accounts", PAGE_ACCOUNTZ},
    {"Account Stats", PAGE_ACCSTATZ}, {"Subscriptions", PAGE_SUBSZ},
    {"Routes", PAGE_ROUTEZ},        {"LeafNodes", PAGE_LEAFZ},
    {"Gateways", PAGE_GATEWAYZ},    {"Raft Groups", PAGE_RAFTZ},
    {"Health Probe", PAGE_HEALTHZ}, {"Expvar", PAGE_EXPVARZ},
    {"Metrics", PAGE_METRICS},
};

static void write_escaped(struct text *out, struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        switch (b.data[i]) {
        case '&':
            text_string(out, "&amp;");
            break;
        case '<':
            text_string(out, "&lt;");
            break;
        case '>':
            text_string(out, "&gt;");
            break;
        case '"':
            text_string(out, "&quot;");
            break;
        default:
            text_char(out, b.data[i]);
        }
    }
}

void root_write(const struct page_input *in, struct text *out)
{
    struct bytes base = in->server->options->http_base_path;
    if (base.len == 1) base.len = 0;
    text_string(out, "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>");
    write_escaped(out, in->server->name);
    text_string(out, "</title>\n<style>\nbody { font-family: system-ui, sans-serif; margin: 2em }\n"
                     "a { display: block; padding: 3px; color: #345; text-decoration: none }\n"
                     "a:hover { text-decoration: underline }\n"
                     "</style>\n</head>\n<body>\n<h1>Millrace ");
    write_escaped(out, in->server->own_version);
    text_string(out, " (nats-server ");
    write_escaped(out, in->server->version);
    text_string(out, ")</h1>\n");
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        text_string(out, "<a href=\"");
        write_escaped(out, base);
        text_string(out, query_path_of_page(links[i].page));
        text_string(out, "\">");
        text_string(out, links[i].title);
        text_string(out, "</a>\n");
    }
    text_string(out, "</body>\n</html>\n");
}
