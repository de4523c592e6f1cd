/** The version of the package, and of the header `kryonix-sdk-version`. A test asserts that package.json has the same. */
export const VERSION = "1.0.0";
