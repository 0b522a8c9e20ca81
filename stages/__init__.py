"""The pipeline's stages, one short script each, run as `python -m stages.<name>` from the project's root.

`stages.common` holds what they share and no result depends on.
"""

import gc
import signal
import sys

if sys.argv[0] == "-m":  # as it is until `python -m` has found the stage's module
    # The imports' objects never die: collecting among them takes two seconds. `run_stage` enables it again.
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports prints no traceback
