"""The dashboard: one module a page, each asking `serving.questions` and drawing the answers with `charts`."""
