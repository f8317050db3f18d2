/* Every INIT macro is what its init function makes, also of a struct of another version's size. */
#include "check.h"

#define SAME(type, init, macro)                                                             \
    do {                                                                                    \
        const type by_macro = macro;                                                        \
        unsigned char by_function[2 * sizeof(type)];                                        \
        uint32_t size;                                                                      \
        memset(by_function, 0xaa, sizeof by_function);                                      \
        init((type *)(void *)by_function, sizeof(type));                                    \
        CHECK(memcmp(by_function, &by_macro, sizeof(type)) == 0);                           \
        CHECK(by_function[sizeof(type)] == 0xaa);                                           \
        init((type *)(void *)by_function, sizeof(type) + 8);                                \
        memcpy(&size, by_function, sizeof size);                                            \
        CHECK(size == sizeof(type) + 8);                                                    \
        CHECK(by_function[sizeof(type)] == 0 && by_function[sizeof(type) + 7] == 0);        \
        CHECK(by_function[sizeof(type) + 8] == 0xaa);                                       \
        memset(by_function, 0xaa, sizeof by_function);                                      \
        init((type *)(void *)by_function, 8);                                               \
        CHECK(by_function[0] == 8 && by_function[8] == 0xaa);                               \
        init((type *)(void *)(by_function + 1), sizeof(type));                              \
        CHECK(by_function[8] == 0xaa);                                                      \
        init((type *)(void *)by_function, (size_t)-1);                                      \
        init((type *)(void *)by_function, 3);                                               \
        CHECK(by_function[0] == 8 && by_function[8] == 0xaa);                               \
        init(NULL, sizeof(type));                                                           \
    } while (0)

int main(void)
{
    SAME(byol_error, byol_error_init, BYOL_ERROR_INIT);
    SAME(byol_runtime_options, byol_runtime_options_init, BYOL_RUNTIME_OPTIONS_INIT);
    SAME(byol_source, byol_source_init, BYOL_SOURCE_INIT);
    SAME(byol_model_info, byol_model_info_init, BYOL_MODEL_INFO_INIT);
    SAME(byol_contract, byol_contract_init, BYOL_CONTRACT_INIT);
    SAME(byol_encoder_options, byol_encoder_options_init, BYOL_ENCODER_OPTIONS_INIT);
    SAME(byol_encoder_info, byol_encoder_info_init, BYOL_ENCODER_INFO_INIT);
    SAME(byol_image, byol_image_init, BYOL_IMAGE_INIT);
    SAME(byol_fit_options, byol_fit_options_init, BYOL_FIT_OPTIONS_INIT);
    SAME(byol_fit_report, byol_fit_report_init, BYOL_FIT_REPORT_INIT);
    SAME(byol_head_info, byol_head_info_init, BYOL_HEAD_INFO_INIT);
    SAME(byol_metrics, byol_metrics_init, BYOL_METRICS_INIT);
    SAME(byol_runtime_stats, byol_runtime_stats_init, BYOL_RUNTIME_STATS_INIT);
    SAME(byol_image_info, byol_image_info_init, BYOL_IMAGE_INFO_INIT);
    SAME(byol_features_info, byol_features_info_init, BYOL_FEATURES_INFO_INIT);
    SAME(byol_trainer_info, byol_trainer_info_init, BYOL_TRAINER_INFO_INIT);
    SAME(byol_search_options, byol_search_options_init, BYOL_SEARCH_OPTIONS_INIT);
    SAME(byol_extract_options, byol_extract_options_init, BYOL_EXTRACT_OPTIONS_INIT);
    {
        const byol_extract_options by_macro = BYOL_EXTRACT_OPTIONS_INIT;
        byol_extract_options by_function = {99, 99, 99, 99, NULL, 99, NULL};
        byol_extract_options_init(&by_function, sizeof by_function);
        CHECK(memcmp(&by_macro, &by_function, sizeof by_macro) == 0);
    }
    return check_end("init");
}
