import type pkcs11 from 'pkcs11js';

// What differs between modules; apart from module.ts, so that signing threads start without the library that opens them.

/** Labels are padded with blanks (PKCS#11 v2.40 CK_TOKEN_INFO); some modules leave zeros behind them. */
export const trimLabel = (label: string): string => label.replace(/[\s\0]+$/, '');

/** Whether signatures are made with copies of keys: as configured, else with SoftHSM only. See `KeySpec.copyKey`. */
export const isCopying = (library: pkcs11.PKCS11, copyKey: boolean | null): boolean =>
  copyKey ?? /softhsm/i.test(library.C_GetInfo().manufacturerID);
