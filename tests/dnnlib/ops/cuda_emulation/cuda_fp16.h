// Empty: emulated kernels convert float16 in software.
#pragma once
