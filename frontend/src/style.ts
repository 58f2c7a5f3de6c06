// The type declaration of the style sheet, for compilers that require one for each import.
export {};
