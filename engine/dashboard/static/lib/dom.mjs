// What views are written with: Preact's elements by htm's templates, and its hooks.
import { Fragment, createContext, h, render } from "../vendor/preact.mjs";
import htm from "../vendor/htm.mjs";

export * from "../vendor/hooks.mjs";
export { Fragment, createContext, render };
export const html = htm.bind(h);
