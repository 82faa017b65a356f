"""The wallet's pages: a web site on its owner's own machine, for its owner alone."""
