// Every page: its name, its address, and what to do there first.
export const PAGES = [
  ["home", "/"],
  ["policies", "/policies"],
  ["credentials", "/credentials"],
  ["federations", "/federations"],
  ["bindings", "/bindings"],
];
