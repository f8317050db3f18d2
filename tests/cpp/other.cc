/* A second translation unit with byol.hpp, included twice: linking the two must not find anything twice. */
#include <byol.hpp>
#include <byol.hpp>

int other_unit(const byol::encoder &encoder);

int other_unit(const byol::encoder &encoder)
{
    const byol::result<byol_encoder_info> info = encoder.info();
    return info && info->dimension > 0 ? 0 : 1;
}
