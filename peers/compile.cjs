// Compiles a standard JSON input from standard input with the solc of this folder. Reads no file and decides nothing.
"use strict";
const fs = require("node:fs");
const solc = require("solc");

process.stdout.write(solc.compile(fs.readFileSync(0, "utf8")));
