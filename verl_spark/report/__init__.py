"""One HTML page about runs: what is in their folders or result files, read, summed up, drawn and shown.

`finding` says what a folder holds, `reading` and `rollouts` take it in, `result` keeps a run in a small file; `study`
and `stored` are tables that are there already. `groups` has the means over seeds, `tables` and `pictures` say what is
shown of them, `charts` draws, and `page` puts it all together."""
