// What the package's style sheet is to a compiler that wants to know of each import what it is.
export {};
