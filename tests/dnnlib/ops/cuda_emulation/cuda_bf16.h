// Empty: emulated kernels convert bfloat16 in software.
#pragma once
