const fs = require("fs");
const mustache = require("mustache");

const page = fs.readFileSync("src/index.mustache", "utf8");
fs.mkdirSync("dist", { recursive: true });
fs.writeFileSync("dist/index.html", mustache.render(page, { title: "a bundle" }));
