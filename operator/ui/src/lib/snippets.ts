// Lines that call an API with a key. A line for the shell has the key; programs read it from their environment.

interface Call {
  address: string;
  header: string;
}

/** The header of a policy that names none. */
export const USUAL_HEADER = "X-Api-Key";
/** An address that nobody has. */
export const USUAL_ADDRESS = "https://api.example.com/";

/** A word of a POSIX shell, whatever is in it. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
/** A text of JavaScript and of Python: both read JSON texts. */
const text = (value: string): string => JSON.stringify(value);

export const curl = ({ address, header, secret }: Call & { secret: string }): string =>
  `curl -H ${quoted(`${header}: ${secret}`)} ${quoted(address)}`;

export const javascript = ({ address, header }: Call): string =>
  [
    `const answer = await fetch(${text(address)}, {`,
    `  headers: { ${text(header)}: process.env.API_KEY },`,
    "});",
    "console.log(answer.status, await answer.text());",
  ].join("\n");

export const python = ({ address, header }: Call): string =>
  [
    "import os, urllib.request",
    "",
    `request = urllib.request.Request(${text(address)}, headers={${text(header)}: os.environ["API_KEY"]})`,
    "with urllib.request.urlopen(request) as answer:",
    "    print(answer.status, answer.read().decode())",
  ].join("\n");
