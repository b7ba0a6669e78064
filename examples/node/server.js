const http = require("node:http");
const ms = require("ms");

const started = Date.now();
const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/plain");
  response.end(`My goals: learn about containers. Up for ${ms(Date.now() - started)}.\n`);
});
server.listen(80, () => console.log("listening on port 80"));
// The first process of a container gets no default action for signals.
process.on("SIGTERM", () => process.exit(0));
