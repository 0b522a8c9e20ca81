"""The pipeline's stages, one short script each, run as `python -m stages.<name>` from the project's root.

`stages.common` has the code that they share. No result depends on it.
"""

import gc
import signal
import sys

if sys.argv[0] == "-m":  # as it is until `python -m` has found the stage's module
    # Imported objects are never freed, so collecting garbage during the imports wastes two seconds. `run_stage` enables
    # collection again.
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports prints no traceback
