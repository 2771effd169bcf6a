"""``python -m flexbert.commands`` is ``flexbert``."""

import sys

from flexbert.commands import main

sys.exit(main())
