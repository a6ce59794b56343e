// Styles are bundled by esbuild; the type checker need not know what is in them.
declare module "*.css";
