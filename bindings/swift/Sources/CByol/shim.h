#include <byol.h>
