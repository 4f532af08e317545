#include <criterion/criterion.h>
#include "persist/names.h"

Test(names, are_as_the_page_says)
{
    cr_assert_str_eq(names_root(1).text, "root-1");
    cr_assert_str_eq(names_manifest(255, 0).text, "00ff-manifest-0");
    cr_assert_str_eq(names_segment(1, 0xabcdef01).text, "0001-abcdef01.log");
    cr_assert_str_eq(names_pack(0, 2).text, "0000-00000002.pack");
}

Test(names, lead_back_to_their_numbers)
{
    uint32_t log = 0, number = 0;
    cr_assert(names_is_segment("0001-abcdef01.log", &log, &number));
    cr_assert_eq(log, 1);
    cr_assert_eq(number, 0xabcdef01);
    cr_assert(names_is_pack("00ff-00000002.pack", &log, &number));
    cr_assert_eq(log, 255);
    cr_assert_eq(number, 2);
    cr_assert(names_is_manifest("00fe-manifest-1", &log));
    cr_assert_eq(log, 254);
}

Test(names, of_others_are_not_taken_for_ours)
{
    static const char *const OTHERS[] = {"",
                                         "lock",
                                         "0001-abcdef01",
                                         "0001-abcdef01.log.old",
                                         "0001-ABCDEF01.log",
                                         "001-abcdef01.log",
                                         "0001-abcdef0.log",
                                         "0001_abcdef01.log",
                                         "0001-abcdef01.pac"};
    uint32_t log, number;
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) {
        cr_assert_not(names_is_segment(OTHERS[i], &log, &number), "%s", OTHERS[i]);
        cr_assert_not(names_is_pack(OTHERS[i], &log, &number), "%s", OTHERS[i]);
        cr_assert_not(names_is_manifest(OTHERS[i], &log), "%s", OTHERS[i]);
        cr_assert_not(names_is_of_store(OTHERS[i]), "%s", OTHERS[i]);
    }
    cr_assert_not(names_is_manifest("0000-manifest-2", &log));
    cr_assert(names_is_of_store("0000-manifest-1"));
    cr_assert(names_is_of_store("0000-00000001.log"));
}

Test(names, of_files_that_are_kept)
{
    cr_assert_str_eq(names_kept("0001-abcdef01.pack").text, "0001-abcdef01.pack.kept");
    cr_assert(names_is_kept("0001-abcdef01.pack.kept"));
    cr_assert(names_is_kept("0000-00000001.log.kept"));
    static const char *const OTHERS[] = {
        "",
        ".kept",
        "lock.kept",
        "0000-00000001.log",
        "0000-00000001.log.kept.kept",
        "0000-manifest-0.kept",
        "a name that is longer than that of any file of a store.kept"};
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        cr_assert_not(names_is_kept(OTHERS[i]), "%s", OTHERS[i]);
}
