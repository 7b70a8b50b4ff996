"""What every long run of work stands on, whatever it is for: rows read, calls asked and kept, files written whole.

`rows`, `problems`: what is read. `config`: the config of a run and of its folder. `calls`, `journal`, `store`,
`asking`: what is asked of the models and never asked twice. `cost`: what that took. `files`: what is written."""
