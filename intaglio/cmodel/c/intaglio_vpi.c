/* intaglio.h for Verilog, through VPI: system functions over one model of the network whose opening
 * function is INTAGLIO_OPEN. They return what the C functions do, in 64 signed bits.
 *
 *   $intaglio_open                            0; -1 where memory does not suffice
 *   $intaglio_find("name")                    the tensor's number, or -1
 *   $intaglio_put(tensor, channel, y, x, code)
 *   $intaglio_forward
 *   $intaglio_compute(tensor)
 *   $intaglio_get(tensor, channel, y, x)
 *   $intaglio_check(tensor, channel, y, x, got)
 *   $intaglio_overflows(tensor)
 *   $intaglio_error;                          a task: prints the sentence
 *
 * A code with undefined bits is none: put refuses it, check finds that it differs.
 */
#include <stdlib.h>
#include <string.h>
#include <vpi_user.h>

#include "intaglio.h"

#ifndef INTAGLIO_OPEN
#error "INTAGLIO_OPEN must be the network's opening function: -DINTAGLIO_OPEN=NAME_open."
#endif

#ifdef __cplusplus
extern "C"
#endif
intaglio *INTAGLIO_OPEN(void);

enum { MOST = 5, WORDS = 2 }; /* arguments; 32-bit words of a result */

static intaglio *model;

/* An argument as 64 signed bits; *known is 0 where a bit is x or z. */
static int64_t number(vpiHandle argument, int *known) {
  const int size = vpi_get(vpiSize, argument), sign = vpi_get(vpiSigned, argument);
  s_vpi_value value;
  uint64_t bits = 0;
  int n, words;
  value.format = vpiVectorVal;
  vpi_get_value(argument, &value);
  words = (size + 31) / 32;
  for (n = 0; n < words; ++n) {
    if (value.value.vector[n].bval) *known = 0;
    if (n < WORDS) bits |= (uint64_t)(uint32_t)value.value.vector[n].aval << (32 * n);
  }
  if (size < 64) {
    const uint64_t top = UINT64_C(1) << (size - 1);
    bits &= (top << 1) - 1;
    if (sign) bits = (bits ^ top) - top;
  }
  return (int64_t)bits;
}

/* The arguments of the call; how many there are. */
static int arguments(int64_t *found, int *known) {
  vpiHandle call = vpi_handle(vpiSysTfCall, NULL), each = vpi_iterate(vpiArgument, call), one;
  int count = 0;
  *known = 1;
  while (each && (one = vpi_scan(each)) != NULL) {
    if (count < MOST) found[count] = number(one, known);
    ++count;
  }
  return count;
}

static void result(int64_t number_of) {
  s_vpi_vecval words[WORDS];
  s_vpi_value value;
  vpiHandle call = vpi_handle(vpiSysTfCall, NULL);
  words[0].aval = (PLI_INT32)(uint32_t)((uint64_t)number_of & UINT32_MAX);
  words[1].aval = (PLI_INT32)(uint32_t)((uint64_t)number_of >> 32);
  words[0].bval = words[1].bval = 0;
  value.format = vpiVectorVal;
  value.value.vector = words;
  vpi_put_value(call, &value, NULL, vpiNoDelay);
}

/* Stops the simulation with a sentence. */
static void stop(const char *name, const char *sentence) {
  vpi_printf((PLI_BYTE8 *)"%s: %s\n", name, sentence);
  vpi_control(vpiFinish, 1);
}

static PLI_INT32 call_open(PLI_BYTE8 *name) {
  (void)name;
  if (!model) model = INTAGLIO_OPEN();
  result(model ? 0 : -1);
  return 0;
}

static PLI_INT32 call_find(PLI_BYTE8 *name) {
  vpiHandle call = vpi_handle(vpiSysTfCall, NULL), each = vpi_iterate(vpiArgument, call);
  vpiHandle one = each ? vpi_scan(each) : NULL;
  s_vpi_value value;
  if (!model || !one) {
    stop(name, "must follow $intaglio_open and have a name.");
    return 0;
  }
  value.format = vpiStringVal;
  vpi_get_value(one, &value);
  result(intaglio_find(model, value.value.str));
  vpi_free_object(each);
  return 0;
}

static PLI_INT32 call_numbers(PLI_BYTE8 *name) {
  static const struct {
    const char *name;
    int count;
  } calls[] = {{"$intaglio_forward", 0}, {"$intaglio_compute", 1}, {"$intaglio_overflows", 1},
               {"$intaglio_get", 4},     {"$intaglio_put", 5},     {"$intaglio_check", 5}};
  int64_t a[MOST] = {0, 0, 0, 0, 0};
  int known, which = 0, t, c, y, x;
  const int count = arguments(a, &known);
  while (strcmp(calls[which].name, name) != 0) ++which;
  if (!model || count != calls[which].count) {
    stop(name, "must follow $intaglio_open and have the arguments that intaglio_vpi.c lists.");
    return 0;
  }
  t = (int)a[0], c = (int)a[1], y = (int)a[2], x = (int)a[3];
  switch (which) {
    case 0: result(intaglio_forward(model)); break;
    case 1: result(intaglio_compute(model, t)); break;
    case 2: result(intaglio_overflows(model, t)); break;
    case 3: result(intaglio_get(model, t, c, y, x)); break;
    case 4: result(intaglio_put(model, t, c, y, x, known ? a[4] : INT64_MIN)); break;
    default: result(intaglio_check(model, t, c, y, x, known ? a[4] : INT64_MIN)); break;
  }
  return 0;
}

static PLI_INT32 call_error(PLI_BYTE8 *name) {
  (void)name;
  vpi_printf((PLI_BYTE8 *)"%s\n", intaglio_error(model));
  return 0;
}

static PLI_INT32 wide(PLI_BYTE8 *name) {
  (void)name;
  return 64;
}

static void add_call(const char *name, PLI_INT32 kind, PLI_INT32 (*call)(PLI_BYTE8 *)) {
  s_vpi_systf_data data;
  memset(&data, 0, sizeof(data));
  data.type = kind ? vpiSysFunc : vpiSysTask;
  data.sysfunctype = kind;
  data.tfname = (PLI_BYTE8 *)name;
  data.calltf = call;
  data.sizetf = kind ? wide : NULL;
  data.user_data = (PLI_BYTE8 *)name;
  vpi_register_systf(&data);
}

static PLI_INT32 end(p_cb_data data) {
  (void)data;
  intaglio_close(model);
  model = NULL;
  return 0;
}

static void start(void) {
  s_cb_data data;
  const PLI_INT32 function = vpiSizedSignedFunc;
  memset(&data, 0, sizeof(data));
  data.reason = cbEndOfSimulation;
  data.cb_rtn = end;
  vpi_register_cb(&data);
  add_call("$intaglio_open", function, call_open);
  add_call("$intaglio_find", function, call_find);
  add_call("$intaglio_forward", function, call_numbers);
  add_call("$intaglio_compute", function, call_numbers);
  add_call("$intaglio_overflows", function, call_numbers);
  add_call("$intaglio_get", function, call_numbers);
  add_call("$intaglio_put", function, call_numbers);
  add_call("$intaglio_check", function, call_numbers);
  add_call("$intaglio_error", 0, call_error);
}

void (*vlog_startup_routines[])(void) = {start, NULL};
